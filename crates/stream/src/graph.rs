//! `Graph`: the operators of a flow and their connections, from which a diagram can be drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::output::Output;
use crate::stage::Stage;
use crate::stage_id::StageId;

/// The operators of a flow and how they are connected.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    edges: Vec<(NodeId, NodeId)>,
}

/// Identifies a node among all graphs of the process, so that the graphs of joined flows can be
/// merged. It is the address of the node's list of outputs, which the node and its copies share, and
/// which a graph that has an edge to the node keeps alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// One operator, source or sink.
#[derive(Clone, Debug)]
pub struct Node {
    kind: NodeKind,
    stage: Stage,
    outputs: Arc<Mutex<Vec<Arc<Output>>>>,
    /// Outputs of other nodes that this one reads.
    inputs: Arc<Mutex<Vec<Arc<Output>>>>,
    depth: Arc<AtomicUsize>,
}

/// The kind of a node, which decides its shape in a diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A source, at which events enter the flow.
    Source,
    /// An operator that processes single events.
    Element,
    /// An operator that gathers events into batches.
    Window,
    /// An operator that processes whole batches.
    Batch,
    /// An operator that splits a flow or joins flows.
    Junction,
    /// A sink, at which events leave the flow.
    Sink,
}

impl Node {
    pub(crate) fn new(kind: NodeKind, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            stage: Stage::new(name),
            outputs: Arc::default(),
            inputs: Arc::default(),
            depth: Arc::default(),
        }
    }

    /// Returns the name that the user gave the operator, or otherwise the operator's own name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.stage.name()
    }

    /// Returns the kind of the node.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Returns the number of elements (events, or batches) that have left the node so far.
    #[must_use]
    pub fn emitted(&self) -> u64 {
        self.outputs.lock().iter().map(|output| output.items()).sum()
    }

    /// Returns the number of events that have come to the node, alone or in batches.
    ///
    /// Once no event is inside the node, these and the [made](Self::made) ones are as many as those
    /// that [left](Self::events_out), [failed](Self::failed) or were
    /// [discarded](Self::discarded). Sources have no events that come, and sinks none that leave.
    #[must_use]
    pub fn events_in(&self) -> u64 {
        self.inputs.lock().iter().map(|input| input.events()).sum()
    }

    /// Returns the number of events that have left the node, alone or in batches.
    #[must_use]
    pub fn events_out(&self) -> u64 {
        self.outputs.lock().iter().map(|output| output.events()).sum()
    }

    /// Returns the number of events that failed at the node, by the failures' codes.
    #[must_use]
    pub fn failed(&self) -> BTreeMap<String, u64> {
        self.stage.failed()
    }

    /// Returns the number of events that the node left out on purpose.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.stage.discarded()
    }

    /// Returns the number of events that the node made of others, such as the parts of a list, less
    /// the number of those that it joined to others.
    #[must_use]
    pub fn made(&self) -> i64 {
        self.stage.net_made()
    }

    /// Returns the number of events that wait in the node's queue; 0 for a node without a queue.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    pub(crate) fn depth_gauge(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.depth)
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(Arc::as_ptr(&self.outputs).addr())
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) fn add_output(&self, output: Arc<Output>) {
        self.outputs.lock().push(output);
    }

    /// Forgets the outputs, because the node's events leave through others.
    pub(crate) fn clear_outputs(&self) {
        self.outputs.lock().clear();
    }

    /// Reads `input` from now on: its events enter this node.
    pub(crate) fn add_input(&self, input: Arc<Output>) {
        input.leads_to(StageId::named(self.name()));
        self.inputs.lock().push(input);
    }
}

impl Graph {
    /// Returns the nodes, in the order in which they were added.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the edges, as positions in [`nodes`](Self::nodes).
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        let position = |id| self.nodes.iter().position(|node| node.id() == id);
        self.edges.iter().filter_map(move |&(from, to)| Some((position(from)?, position(to)?)))
    }

    /// Returns the graph in Mermaid's language, for Markdown pages.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let (open, close) = match node.kind {
                NodeKind::Source | NodeKind::Sink => ("([", "])"),
                NodeKind::Element => ("[", "]"),
                NodeKind::Window => ("[/", "/]"),
                NodeKind::Batch => ("[[", "]]"),
                NodeKind::Junction => ("{", "}"),
            };
            let label = node.name().replace('&', "#amp;").replace('"', "#quot;");
            let label = label.replace('<', "#lt;").replace('>', "#gt;");
            // Writing to a string cannot fail.
            writeln!(text, "    n{index}{open}\"{label}\"{close}").ok();
        }
        for (from, to) in self.edges() {
            writeln!(text, "    n{from} --> n{to}").ok();
        }
        text
    }

    /// Returns the graph in Graphviz's DOT language.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph forebay {\n    rankdir=LR;\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let shape = match node.kind {
                NodeKind::Source | NodeKind::Sink => "oval",
                NodeKind::Element => "box",
                NodeKind::Window => "parallelogram",
                NodeKind::Batch => "box3d",
                NodeKind::Junction => "diamond",
            };
            let label = node.name().replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(text, "    n{index} [label=\"{label}\", shape={shape}];").ok();
        }
        for (from, to) in self.edges() {
            writeln!(text, "    n{from} -> n{to};").ok();
        }
        text.push_str("}\n");
        text
    }

    /// Adds `node`, and an edge to it from the node `from` if there is one.
    pub(crate) fn add(&mut self, from: Option<NodeId>, node: Node) {
        self.edges.extend(from.map(|from| (from, node.id())));
        self.nodes.push(node);
    }

    /// Adds the nodes and edges of `other` that this graph does not have.
    pub fn merge(&mut self, other: Self) {
        for node in other.nodes {
            if self.node(node.id()).is_none() {
                self.nodes.push(node);
            }
        }
        for edge in other.edges {
            if !self.edges.contains(&edge) {
                self.edges.push(edge);
            }
        }
    }

    /// Returns a node of this graph.
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id() == id)
    }

    pub(crate) fn connect(&mut self, from: NodeId, to: NodeId) {
        self.edges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use crate::Flow;

    #[test]
    fn a_flow_is_drawn_in_mermaid_and_dot() {
        let size = NonZeroUsize::new(64).unwrap();
        let graph = Flow::from_iter([1])
            .timed_window(Duration::from_millis(5), size)
            .flatten()
            .named("say \"hi\"")
            .map(|x: i32| x)
            .graph()
            .clone();
        assert_eq!(
            graph.to_mermaid(),
            "flowchart LR\n    n0([\"from_iter\"])\n    n1[/\"timed_window\"/]\n    n2[[\"flatten\"]]\n    \
             n3[\"say #quot;hi#quot;\"]\n    n0 --> n1\n    n1 --> n2\n    n2 --> n3\n"
        );
        assert!(graph.to_dot().contains("n3 [label=\"say \\\"hi\\\"\", shape=box];"));
    }
}

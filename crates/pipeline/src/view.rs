//! `View`: a live view of a running pipeline.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_model::Work;
use forebay_stream::{Graph, NodeKind, Tap};

use crate::counts::{Counts, LastFailure};
use crate::json::Json;

/// A live view of a running pipeline: its graph with counters, its models, the values seen by its
/// taps, and its last failures. Clones show the same pipeline.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(crate) graph: Graph,
    pub(crate) taps: BTreeMap<String, Tap<Json>>,
    pub(crate) counts: Counts,
    pub(crate) models: Arc<[ModelSource]>,
}

/// Where the view of a model comes from.
pub(crate) struct ModelSource {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) work: Arc<dyn Fn() -> Work + Send + Sync>,
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A node of the pipeline's graph at one moment.
///
/// Once no event is inside it, `received + made` is `emitted + discarded` and the sum of `failed`,
/// for every node but sources and sinks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepView {
    /// The name of the step; no two nodes have the same.
    pub name: String,
    /// The kind of the node.
    pub kind: NodeKind,
    /// Number of events that came, alone or in batches.
    pub received: u64,
    /// Number of events that left, alone or in batches.
    pub emitted: u64,
    /// Number of events or batches that left.
    pub items: u64,
    /// Number of events that failed here, by code.
    pub failed: BTreeMap<String, u64>,
    /// Number of events that were left out on purpose.
    pub discarded: u64,
    /// Number of events that were made of others, less those that were joined to others.
    pub made: i64,
    /// Number of events that wait in the node's queue.
    pub waiting: usize,
}

impl StepView {
    /// Returns the number of events that are inside the node: they came, and nothing has become of
    /// them yet. 0 for sources and sinks.
    #[must_use]
    pub fn inside(&self) -> u64 {
        if matches!(self.kind, NodeKind::Source | NodeKind::Sink) {
            return 0;
        }
        let gone = self.emitted + self.discarded + self.failed.values().sum::<u64>();
        self.received.saturating_add_signed(self.made).saturating_sub(gone)
    }
}

/// A model at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelView {
    /// The model's name in the file.
    pub name: String,
    /// The kind of the model, and its device.
    pub description: String,
    /// How much it has done.
    pub work: Work,
}

impl View {
    /// Returns the pipeline's operators, with counters that are updated while it runs.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the nodes of the graph, in the graph's order, each under a name of its own.
    #[must_use]
    pub fn steps(&self) -> Vec<StepView> {
        let mut names = Names::default();
        let step = |node: &forebay_stream::Node| StepView {
            name: names.own(node.name()),
            kind: node.kind(),
            received: node.events_in(),
            emitted: node.events_out(),
            items: node.emitted(),
            failed: node.failed(),
            discarded: node.discarded(),
            made: node.made(),
            waiting: node.depth(),
        };
        self.graph.nodes().iter().map(step).collect()
    }

    /// Returns the models, in the order of their names.
    #[must_use]
    pub fn models(&self) -> Vec<ModelView> {
        let view = |model: &ModelSource| ModelView {
            name: model.name.clone(),
            description: model.description.clone(),
            work: (model.work)(),
        };
        self.models.iter().map(view).collect()
    }

    /// Returns the number of requests that got a result, and of those that failed.
    #[must_use]
    pub fn answers(&self) -> (u64, u64) {
        (self.counts.results(), self.counts.errors())
    }

    /// Returns the last failed requests, the newest last.
    #[must_use]
    pub fn last_failures(&self) -> Vec<LastFailure> {
        self.counts.last_failures()
    }

    /// Returns the last values that passed each `tap`, by the tap's name, oldest first.
    #[must_use]
    pub fn taps(&self) -> BTreeMap<&str, Vec<Json>> {
        self.taps.iter().map(|(name, tap)| (name.as_str(), tap.recent())).collect()
    }
}

/// Gives each node its own name: nodes that the pipeline adds, such as `decode`, may have the same
/// name as others.
#[derive(Default)]
struct Names(BTreeMap<String, u32>);

impl Names {
    fn own(&mut self, name: &str) -> String {
        let count = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        match *count {
            1 => name.to_owned(),
            count => {
                let numbered = format!("{name}-{count}");
                // Another node may have this very name.
                self.own(&numbered)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn each_node_has_its_own_name() {
        let mut names = Names::default();
        let given = ["decode", "a", "decode", "decode-2", "decode"].map(|name| names.own(name));
        assert_eq!(given, ["decode", "a", "decode-2", "decode-2-2", "decode-3"]);
    }
}

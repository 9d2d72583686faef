//! `Flow` and `Batches`: the types on which users chain operators. `Chain`: the stream and graph
//! below them, to which every operator is added.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use pin_project_lite::pin_project;
use tracing::Span;

use crate::fault::Fault;
use crate::fork::{Forks, JoinOrder};
use crate::graph::NodeId;
use crate::output::{Output, Passing};
use crate::source_gate::SourceGate;
use crate::stage::Stage;
use crate::stage_id::StageId;
use crate::{Event, Graph, Node, NodeKind, panics};

/// A flow of single events.
///
/// Each operator consumes the flow and returns a new one. Nothing runs until a sink is attached and
/// polled. Downstream pulls from upstream: an operator that is not polled does not poll the one
/// before it.
#[must_use = "a flow does nothing until it ends in a sink that is run"]
pub struct Flow<T>(pub(crate) Chain<Event<T>>);

/// A flow of batches whose members keep their own metadata and receipts. A batch is empty only if
/// the window was asked to [emit empty batches](crate::Empty::Emit).
#[must_use = "a flow does nothing until it ends in a sink that is run"]
pub struct Batches<T>(pub(crate) Chain<Vec<Event<T>>>);

impl<T> fmt::Debug for Flow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("graph", &self.0.graph).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Batches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("graph", &self.0.graph).finish_non_exhaustive()
    }
}

/// A stream, the graph of the operators that it consists of, and the fault (the error that ends the
/// flow early) that its sources, tasks and sinks share.
pub(crate) struct Chain<I> {
    pub(crate) stream: BoxStream<'static, I>,
    pub(crate) graph: Graph,
    pub(crate) tail: NodeId,
    pub(crate) fault: Fault,
    /// The forks that all events of the stream have come through.
    pub(crate) forks: Forks,
    name: Option<Arc<str>>,
    /// How long the next operator, a join, waits for a branch that is behind.
    join_wait: Option<Duration>,
    // One for each stream that the next operator will read. They get to know that operator once it
    // is attached.
    outputs: Vec<Arc<Output>>,
}

impl<I: Passing> Chain<I> {
    /// Starts a chain, which ends when `stream` ends or the flow's fault is raised.
    pub(crate) fn source(
        node: Node,
        stream: impl Stream<Item = I> + Send + 'static,
        fault: Option<Fault>,
    ) -> Self {
        let fault = fault.unwrap_or_default();
        let mut graph = Graph::default();
        let tail = node.id();
        let (seam, output) = Seam::new(&node, SourceGate::new(stream, fault.clone()));
        graph.add(None, node);
        Self {
            stream: seam.boxed(),
            graph,
            tail,
            fault,
            forks: Forks::default(),
            name: None,
            join_wait: None,
            outputs: vec![output],
        }
    }

    /// Adds an operator, with its name, its span and its counter. Every operator is added here or
    /// in [`apply_node`](Self::apply_node).
    ///
    /// `operator` receives the upstream and the stage, which ends the events that fail or are
    /// discarded.
    pub(crate) fn apply<O, S>(
        self,
        kind: NodeKind,
        operator_name: &'static str,
        operator: impl FnOnce(BoxStream<'static, I>, Stage) -> S,
    ) -> Chain<O>
    where
        O: Passing,
        S: Stream<Item = O> + Send + 'static,
    {
        self.apply_node(kind, operator_name, |upstream, node| {
            operator(upstream, node.stage().clone())
        })
    }

    /// [`apply`](Self::apply) for an operator that needs its whole node, for example to report the
    /// depth of its queue.
    pub(crate) fn apply_node<O, S>(
        mut self,
        kind: NodeKind,
        operator_name: &'static str,
        operator: impl FnOnce(BoxStream<'static, I>, &Node) -> S,
    ) -> Chain<O>
    where
        O: Passing,
        S: Stream<Item = O> + Send + 'static,
    {
        let name = self.name.take().unwrap_or_else(|| operator_name.into());
        let node = Node::new(kind, name);
        self.lead_to(&node);
        let (seam, output) = Seam::new(&node, operator(self.stream, &node));
        let tail = node.id();
        self.graph.add(Some(self.tail), node);
        let stream = seam.boxed();
        let mut forks = self.forks;
        if kind == NodeKind::Window {
            forks.hold();
        }
        Chain {
            stream,
            graph: self.graph,
            tail,
            fault: self.fault,
            forks,
            name: None,
            join_wait: None,
            outputs: vec![output],
        }
    }

    /// Makes a chain of `stream`, a further output of the last operator. In the graph, it comes
    /// from that operator's node.
    pub(crate) fn beside<J: Passing>(
        &self,
        stream: impl Stream<Item = J> + Send + 'static,
    ) -> Chain<J> {
        let output = Arc::new(Output::new::<J>(StageId::NONE));
        if let Some(node) = self.last() {
            node.add_output(Arc::clone(&output));
        }
        let out = Arc::clone(&output);
        let stream = stream.inspect(move |item| out.pass(item));
        self.with_output(self.tail, stream, output)
    }

    /// Makes a chain of `stream`, a further output of the last operator. In the graph, it comes
    /// from its own node, `node`, which follows that operator's node.
    pub(crate) fn aside<J: Passing>(
        &self,
        node: Node,
        stream: impl Stream<Item = J> + Send + 'static,
    ) -> Chain<J> {
        let (seam, output) = Seam::new(&node, stream);
        let mut aside = self.with_output(node.id(), seam, output);
        aside.graph.add(Some(self.tail), node);
        aside
    }

    fn with_output<J>(
        &self,
        tail: NodeId,
        stream: impl Stream<Item = J> + Send + 'static,
        output: Arc<Output>,
    ) -> Chain<J> {
        let stream = stream.boxed();
        let graph = self.graph.clone();
        let fault = self.fault.clone();
        let forks = self.forks.clone();
        Chain {
            stream,
            graph,
            tail,
            fault,
            forks,
            name: None,
            join_wait: None,
            outputs: vec![output],
        }
    }

    /// Records that the events of this chain enter `node` next.
    pub(crate) fn lead_to(&mut self, node: &Node) {
        self.outputs.drain(..).for_each(|output| node.add_input(output));
    }

    /// Returns the node of the last operator.
    pub(crate) fn last(&self) -> Option<&Node> {
        self.graph.node(self.tail)
    }

    /// Merges another chain's graph and fault into this chain, and returns the stream and the last
    /// node of the other chain. The next operator of this chain joins both streams.
    pub(crate) fn absorb<J>(&mut self, other: Chain<J>) -> (BoxStream<'static, J>, NodeId) {
        self.forks.intersect(&other.forks);
        self.merge(other)
    }

    /// Does the same as [`absorb`](Self::absorb), and returns the order of the two streams' events
    /// if they are branches of one fork, with the time that the join waits for the slower one.
    pub(crate) fn absorb_in_order<J>(
        &mut self,
        other: Chain<J>,
        wait_for_holds: Duration,
    ) -> (BoxStream<'static, J>, NodeId, Option<(JoinOrder, Duration)>) {
        let wait = self.wait_for(&other, wait_for_holds);
        let order = self.forks.join(&other.forks).zip(wait);
        let (stream, tail) = self.merge(other);
        (stream, tail, order)
    }

    /// Returns how long a join with `other` waits for the slower of the two, if they are branches of
    /// one fork.
    ///
    /// Unless the user has set a time, it is long for synchronous branches, where it only covers
    /// other tasks that run meanwhile. `wait_for_holds` is the time if a branch may hold events.
    pub(crate) fn wait_for<J>(
        &self,
        other: &Chain<J>,
        wait_for_holds: Duration,
    ) -> Option<Duration> {
        const SYNCHRONOUS: Duration = Duration::from_secs(5);
        let holds = self.forks.may_hold(&other.forks)?;
        let default = if holds { wait_for_holds } else { SYNCHRONOUS };
        Some(self.join_wait.unwrap_or(default))
    }

    fn merge<J>(&mut self, other: Chain<J>) -> (BoxStream<'static, J>, NodeId) {
        self.graph.merge(other.graph);
        self.fault.merge(&other.fault);
        self.outputs.extend(other.outputs);
        (other.stream, other.tail)
    }

    pub(crate) fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Records that the next operator may hold events: it waits, or works asynchronously.
    pub(crate) fn holding(mut self) -> Self {
        self.forks.hold();
        self
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Names the next operator, for graphs, failures and logs.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        Self(self.0.named(name))
    }

    /// Returns the name that [`named`](Self::named) has set for the next operator.
    #[must_use]
    pub fn next_name(&self) -> Option<&Arc<str>> {
        self.0.name.as_ref()
    }

    /// Sets how long the next operator, a join, waits for the other flow, if both are branches of
    /// one flow: see [`union`](Self::union), [`combine_latest`](Self::combine_latest),
    /// [`zip_latest`](Self::zip_latest) and [`collect_until`](Self::collect_until).
    pub fn waiting(mut self, at_most: Duration) -> Self {
        self.0.join_wait = Some(at_most);
        self
    }

    /// Returns the operators that have been added to the flow, and their connections.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }
}

impl<T: Send + 'static> Batches<T> {
    /// Names the next operator, for graphs, failures and logs.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        Self(self.0.named(name))
    }

    /// Returns the operators that have been added to the flow, and their connections.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }
}

pin_project! {
    /// Wraps the stream of an operator: runs it within the operator's span, attributes its panics
    /// to the operator, counts the items it emits, and records the stage that they enter next.
    struct Seam<S> {
        // `None` once the operator has ended. Dropping the operator drops everything upstream as
        // well, so an operator that ends early, such as `slice`, stops its sources.
        #[pin]
        operator: Option<S>,
        name: Arc<str>,
        output: Arc<Output>,
        span: Span,
    }
}

impl<S: Stream<Item: Passing>> Seam<S> {
    fn new(node: &Node, operator: S) -> (Self, Arc<Output>) {
        let name = Arc::clone(node.name());
        let span = tracing::debug_span!("stage", name = &*name);
        // The next stage is known once another operator is attached; until then the event counts as
        // being in this one.
        let output = Arc::new(Output::new::<S::Item>(StageId::named(&name)));
        node.add_output(Arc::clone(&output));
        (Self { operator: Some(operator), name, output: Arc::clone(&output), span }, output)
    }
}

impl<S: Stream<Item: Passing>> Stream for Seam<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        let Some(operator) = this.operator.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let _entered = this.span.enter();
        let item = ready!(panics::within(this.name, || operator.poll_next(cx)));
        if let Some(item) = &item {
            this.output.pass(item);
        } else {
            this.operator.set(None);
        }
        Poll::Ready(item)
    }
}

//! `Flow` and `Batches`: the handles that users chain, and the seam that every operator passes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, Stream, StreamExt as _};
use pin_project_lite::pin_project;
use tracing::Span;

use crate::fault::Fault;
use crate::graph::NodeId;
use crate::source_gate::SourceGate;
use crate::stage::{Passing, StageCell, StageId};
use crate::{Event, Graph, Node, NodeKind, panics};

/// A flow of events, one at a time.
///
/// Operators take the flow and give a new one. Nothing runs until a sink is attached and polled, and everything is
/// pulled: an operator that does not ask stops the one before it.
#[must_use = "a flow does nothing until it ends in a sink that is run"]
pub struct Flow<T>(pub(crate) Chain<Event<T>>);

/// A flow of batches whose members keep their own metadata and receipts. Batches are never empty unless asked for.
#[must_use = "a flow does nothing until it ends in a sink that is run"]
pub struct Batches<T>(pub(crate) Chain<Vec<Event<T>>>);

/// A stream, the description of how it came about, and the fault of what runs on its own: sources, tasks and sinks.
pub(crate) struct Chain<I> {
    pub(crate) stream: BoxStream<'static, I>,
    pub(crate) graph: Graph,
    pub(crate) tail: NodeId,
    pub(crate) fault: Fault,
    name: Option<Arc<str>>,
    // Where what comes out of it goes; known once the next operator is.
    ways_out: Vec<Arc<StageCell>>,
}

impl<I: Passing> Chain<I> {
    /// The start of a chain: `stream` ends when it does, or when the flow has a fault.
    pub(crate) fn source(
        node: Node,
        stream: impl Stream<Item = I> + Send + 'static,
        fault: Option<Fault>,
    ) -> Self {
        let fault = fault.unwrap_or_default();
        let mut graph = Graph::default();
        let tail = node.id();
        let (seam, way_out) = Seam::new(&node, SourceGate::new(stream, fault.clone()));
        graph.add(None, node);
        Self { stream: seam.boxed(), graph, tail, fault, name: None, ways_out: vec![way_out] }
    }

    /// The seam: every operator is added here, and here gets its name, its span and its counter.
    ///
    /// `operator` is given the upstream and the stage's name, under which it reports failures.
    pub(crate) fn apply<O, S>(
        self,
        kind: NodeKind,
        operator_name: &'static str,
        operator: impl FnOnce(BoxStream<'static, I>, Arc<str>) -> S,
    ) -> Chain<O>
    where
        O: Passing,
        S: Stream<Item = O> + Send + 'static,
    {
        self.apply_node(kind, operator_name, |upstream, node| {
            operator(upstream, Arc::clone(node.name()))
        })
    }

    /// [`apply`](Self::apply) for an operator that shows more of itself in its node than its name.
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
        self.leads_to(node.name());
        let (seam, goes_to) = Seam::new(&node, operator(self.stream, &node));
        let tail = node.id();
        self.graph.add(Some(self.tail), node);
        let (stream, ways_out) = (seam.boxed(), vec![goes_to]);
        Chain { stream, graph: self.graph, tail, fault: self.fault, name: None, ways_out }
    }

    /// Another chain that comes out of the same operator: what came about alike, with its own stream.
    pub(crate) fn beside<J: Passing>(
        &self,
        stream: impl Stream<Item = J> + Send + 'static,
    ) -> Chain<J> {
        let way_out = Arc::new(StageCell::new(StageId::NONE));
        let goes_to = Arc::clone(&way_out);
        let stream = stream.inspect(move |item| item.enters(goes_to.get()));
        self.ends_in(self.tail, stream, way_out)
    }

    /// What else comes out of the same operator, under a node of its own.
    pub(crate) fn aside<J: Passing>(
        &self,
        node: Node,
        stream: impl Stream<Item = J> + Send + 'static,
    ) -> Chain<J> {
        let (seam, way_out) = Seam::new(&node, stream);
        let mut aside = self.ends_in(node.id(), seam, way_out);
        aside.graph.add(Some(self.tail), node);
        aside
    }

    fn ends_in<J>(
        &self,
        tail: NodeId,
        stream: impl Stream<Item = J> + Send + 'static,
        way_out: Arc<StageCell>,
    ) -> Chain<J> {
        let (stream, graph, fault) = (stream.boxed(), self.graph.clone(), self.fault.clone());
        Chain { stream, graph, tail, fault, name: None, ways_out: vec![way_out] }
    }

    /// Whatever comes out of this chain goes to the stage `name`.
    pub(crate) fn leads_to(&mut self, name: &Arc<str>) {
        let stage = StageId::named(name);
        self.ways_out.drain(..).for_each(|way_out| way_out.set(stage));
    }

    /// Brings another chain's graph and fault into this one, whose next operator joins both.
    pub(crate) fn absorb<J>(&mut self, other: Chain<J>) -> (BoxStream<'static, J>, NodeId) {
        self.graph.merge(other.graph);
        self.fault.merge(&other.fault);
        self.ways_out.extend(other.ways_out);
        (other.stream, other.tail)
    }

    pub(crate) fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Names the next operator, for graphs, failures and logs.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        Self(self.0.named(name))
    }

    /// The operators so far.
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

    /// The operators so far.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }
}

pin_project! {
    /// Counts what leaves an operator and notes where it goes, runs it within its span, and puts its panics down to it.
    struct Seam<S> {
        // Dropped at its end, and all that is before it: one that ends early needs no more from its sources.
        #[pin]
        operator: Option<S>,
        name: Arc<str>,
        emitted: Arc<AtomicU64>,
        goes_to: Arc<StageCell>,
        span: Span,
    }
}

impl<S> Seam<S> {
    fn new(node: &Node, operator: S) -> (Self, Arc<StageCell>) {
        let (name, emitted) = (Arc::clone(node.name()), node.counter());
        let span = tracing::debug_span!("stage", name = &*name);
        // Until it is known where it goes, it is here.
        let way_out = Arc::new(StageCell::new(StageId::named(&name)));
        let goes_to = Arc::clone(&way_out);
        (Self { operator: Some(operator), name, emitted, goes_to, span }, way_out)
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
            item.enters(this.goes_to.get());
            // Nobody else writes to it, and a store costs a fraction of what adding in place does.
            this.emitted.store(this.emitted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            this.operator.set(None);
        }
        Poll::Ready(item)
    }
}

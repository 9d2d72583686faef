//! `Sink`: the end of a flow. `Pipeline`: a flow with an end, which can be run.

use parking_lot::Mutex;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use thiserror::Error;
use tokio::task::{coop, yield_now};

use crate::fault::Fault;
use crate::flow::Chain;
use crate::{Event, Failure, Flow, Graph, Node, NodeKind, panics};

/// A writer of the events that leave a flow.
///
/// A sink resolves an event's receipt when its delivery is confirmed, never before.
pub trait Sink<T>: Send + 'static {
    /// The error that ends the whole pipeline. For a problem with one event, fail that event's
    /// receipt instead.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes one event. Waits until the sink has room for it, not until it is delivered.
    fn send(&mut self, event: Event<T>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Sends out buffered events; called when nothing more is ready upstream.
    fn flush(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }

    /// Waits until everything sent has been confirmed; called once, at the end of the input.
    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}

/// A flow from its sources to its sink, ready to run.
#[must_use = "a pipeline does nothing until it is run"]
pub struct Pipeline {
    graph: Graph,
    run: Pin<Box<dyn Future<Output = Result<(), PipelineError>> + Send>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// The reason why a pipeline ended before its input did. If a flow has several branches, the runs
/// of all branches return the same reason.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A source could not go on.
    #[error("the source failed")]
    Source(#[source] Cause),
    /// The sink could not go on.
    #[error("the sink failed")]
    Sink(#[source] Cause),
    /// A stage panicked: a source, an operator or the function it was given, or a sink.
    #[error("the stage `{stage}` panicked: {message}")]
    Panicked {
        /// The stage.
        stage: Arc<str>,
        /// The message of the panic.
        message: String,
    },
    /// A [`breaker`](Flow::breaker) has seen too many inputs fail.
    #[error(
        "the circuit breaker tripped: {failed} of the last {of} inputs failed; the last failure: {last}. Find out why \
         they fail, or let the breaker allow more, and start again: inputs without an answer are read \
         again"
    )]
    Tripped {
        /// The number of inputs that failed.
        failed: usize,
        /// The number of inputs among which the failures were counted: the most recent ones.
        of: usize,
        /// The failure that made the breaker trip.
        last: Failure,
    },
}

impl PipelineError {
    pub(crate) fn source(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Source(Cause(Arc::new(error)))
    }
}

/// The error of a source or a sink, shared by all runs that it ends. Dereferences to the error
/// itself.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl Deref for Cause {
    type Target = dyn StdError + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Pipeline {
    /// Returns the operators of the pipeline and their connections.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs until the input has ended and everything is delivered.
    ///
    /// # Errors
    ///
    /// Returns the first error of the flow: a source or a sink cannot go on, a stage panics, or a
    /// [`breaker`](Flow::breaker) trips. If the flow has several branches, the run of each branch
    /// returns this error. All sources of the flow then end, and the events that they had emitted
    /// are delivered for up to one second. Inputs that are still in flight after that are
    /// abandoned, so they are read again.
    pub async fn run(self) -> Result<(), PipelineError> {
        self.run.await
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Ends the flow in `sink`.
    ///
    /// - **Backpressures** when the sink does.
    /// - **Completes** when the input has ended and the sink has confirmed everything.
    /// - **On failure** of one event, the sink fails its receipt; an error of the sink or a source,
    ///   and a panic, end the run.
    pub fn sink(self, name: impl Into<Arc<str>>, sink: impl Sink<T>) -> Pipeline {
        let node = Node::new(NodeKind::Sink, name);
        let mut chain = self.0;
        chain.lead_to(&node);
        let Chain { stream, mut graph, tail, fault, .. } = chain;
        let name = Arc::clone(node.name());
        graph.add(Some(tail), node);
        let run = Box::pin(async move {
            tokio::select! {
                biased;
                () = run(stream, sink, name, fault.clone()) => {}
                () = fault.overdue() => {}
            }
            fault.error().map_or(Ok(()), Err)
        });
        Pipeline { graph, run }
    }

    /// Ends the flow in a function; a value is delivered when the function returns.
    pub fn sink_fn(self, f: impl FnMut(T) + Send + 'static) -> Pipeline {
        struct Function<F>(F);
        impl<T: Send + 'static, F: FnMut(T) + Send + 'static> Sink<T> for Function<F> {
            type Error = std::convert::Infallible;

            async fn send(&mut self, event: Event<T>) -> Result<(), Self::Error> {
                (self.0)(event.value);
                event.receipt.done();
                Ok(())
            }
        }
        self.sink("sink_fn", Function(f))
    }

    /// Runs the flow to its end and returns the values that arrived, in order; for tests and small
    /// jobs.
    ///
    /// # Errors
    ///
    /// The same as those of [`Pipeline::run`].
    pub async fn collect(self) -> Result<Vec<T>, PipelineError> {
        let values = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&values);
        self.sink_fn(move |value| log.lock().push(value)).run().await?;
        let values = std::mem::take(&mut *values.lock());
        Ok(values)
    }
}

/// Runs the flow to its end. An error or a panic that ends it early is raised in `fault`.
async fn run<T: Send + 'static>(
    events: BoxStream<'static, Event<T>>,
    sink: impl Sink<T>,
    name: Arc<str>,
    fault: Fault,
) {
    let error = match AssertUnwindSafe(drive(events, sink, &fault, &name)).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => PipelineError::Sink(Cause(Arc::new(error))),
        Err(panic) => panics::caught(&*panic, &name),
    };
    fault.raise(error);
}

async fn drive<T: Send + 'static, S: Sink<T>>(
    mut events: BoxStream<'static, Event<T>>,
    mut sink: S,
    fault: &Fault,
    name: &Arc<str>,
) -> Result<(), S::Error> {
    loop {
        let ready = poll_fn(|cx| Poll::Ready(poll_event(&mut events, fault, name, cx))).await;
        let next = match ready {
            Poll::Ready(next) => next,
            Poll::Pending if !coop::has_budget_remaining() => {
                // The flow may be pending only because the task's budget is used up. Another event
                // may be ready, so it is too early to flush.
                yield_now().await;
                continue;
            }
            Poll::Pending => {
                sink.flush().await?;
                poll_fn(|cx| poll_event(&mut events, fault, name, cx)).await
            }
        };
        match next {
            Some(event) => sink.send(event).await?,
            None => return sink.close().await,
        }
    }
}

/// Polls the next event. A panic upstream ends the flow, but not the sink, which still confirms the
/// events it was sent.
fn poll_event<T: Send + 'static>(
    events: &mut BoxStream<'static, Event<T>>,
    fault: &Fault,
    sink: &Arc<str>,
    cx: &mut Context<'_>,
) -> Poll<Option<Event<T>>> {
    let polled = catch_unwind(AssertUnwindSafe(|| events.poll_next_unpin(cx)));
    polled.unwrap_or_else(|panic| {
        fault.raise(panics::caught(&*panic, sink));
        *events = stream::empty().boxed();
        Poll::Ready(None)
    })
}

//! `Sink`: where a flow ends, and `Pipeline`: a flow that has an end and can be run.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::stream::{BoxStream, StreamExt as _};
use thiserror::Error;

use crate::flow::{BoxError, Chain};
use crate::{Event, Flow, Graph, Node, NodeKind};

/// Takes the events that leave a flow.
///
/// A sink resolves an event's receipt when its delivery is confirmed, never before.
pub trait Sink<T>: Send + 'static {
    /// What ends the whole pipeline. What concerns one event fails that event's receipt instead.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes one event. Waits for room, not for delivery.
    fn send(&mut self, event: Event<T>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Pushes out what is buffered; called when nothing more is ready upstream.
    fn flush(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }

    /// Returns when everything sent has been confirmed; called once, at the end of the input.
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

/// Why a pipeline ended before its input did.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A source could not go on.
    #[error("the source failed")]
    Source(#[source] BoxError),
    /// The sink could not go on.
    #[error("the sink failed")]
    Sink(#[source] BoxError),
    /// A stage panicked that runs in a task of its own.
    #[error("a stage before `{stage}` panicked: {message}")]
    Panicked {
        /// The stage that owns the task.
        stage: Arc<str>,
        /// What the panic said.
        message: String,
    },
}

impl Pipeline {
    /// What the pipeline is made of.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs until the input has ended and everything is delivered.
    ///
    /// # Errors
    ///
    /// When a source or the sink cannot go on, or a stage with a task of its own panics. What was in flight then stays unresolved, so it is read again.
    pub async fn run(self) -> Result<(), PipelineError> {
        self.run.await
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Ends the flow in `sink`.
    ///
    /// - **Backpressures** when the sink does.
    /// - **Completes** when the input has ended and the sink has confirmed everything.
    /// - **On failure** of one event, the sink fails its receipt; an error of the sink or a source ends the run.
    pub fn sink(self, name: impl Into<Arc<str>>, sink: impl Sink<T>) -> Pipeline {
        let Chain { stream, mut graph, tail, faults, .. } = self.0;
        graph.add(Some(tail), Node::new(NodeKind::Sink, name));
        let run = Box::pin(async move {
            drive(stream, sink).await.map_err(|error| PipelineError::Sink(error.into()))?;
            match faults.iter().find_map(crate::flow::Fault::take) {
                Some(error) => Err(error),
                None => Ok(()),
            }
        });
        Pipeline { graph, run }
    }

    /// Ends the flow in a function, which has delivered each value when it returns.
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

    /// Runs the flow to its end and returns the values that arrived, in order; for tests and small jobs.
    ///
    /// # Errors
    ///
    /// When a source fails.
    pub async fn collect(self) -> Result<Vec<T>, PipelineError> {
        let values = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&values);
        self.sink_fn(move |value| log.lock().unwrap_or_else(PoisonError::into_inner).push(value))
            .run()
            .await?;
        let values = std::mem::take(&mut *values.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(values)
    }
}

async fn drive<T: Send + 'static, S: Sink<T>>(
    mut events: BoxStream<'static, Event<T>>,
    mut sink: S,
) -> Result<(), S::Error> {
    loop {
        let ready = poll_fn(|cx| Poll::Ready(events.poll_next_unpin(cx))).await;
        let next = match ready {
            Poll::Ready(next) => next,
            Poll::Pending => {
                sink.flush().await?;
                events.next().await
            }
        };
        match next {
            Some(event) => sink.send(event).await?,
            None => return sink.close().await,
        }
    }
}

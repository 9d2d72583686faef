//! Where a flow begins.

use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};

use crate::fault::Fault;
use crate::flow::Chain;
use crate::{Event, Flow, Node, NodeKind, PipelineError};

impl<T: Send + 'static> Flow<T> {
    /// A flow of the given values, for which no source waits.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter([1, 2, 3]).map(|x| x * 2).collect().await?, [2, 4, 6]);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(
        clippy::should_implement_trait,
        reason = "a flow is made from more than iterators; the name is the users'"
    )]
    pub fn from_iter<I>(values: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        let node = Node::new(NodeKind::Source, "from_iter");
        Self(Chain::source(node, stream::iter(values).map(Event::detached), None))
    }

    /// A flow of a stream's values, for which no source waits.
    pub fn from_stream(values: impl Stream<Item = T> + Send + 'static) -> Self {
        let node = Node::new(NodeKind::Source, "from_stream");
        Self(Chain::source(node, values.map(Event::detached), None))
    }

    /// A flow of events that carry their own metadata and receipts, as connectors make them.
    ///
    /// - **Completes** when `events` ends, or at its first error.
    /// - **On failure** the error is what [`Pipeline::run`](crate::Pipeline::run) returns, after what had been read
    ///   before it has been delivered.
    pub fn from_try_events<E>(
        name: impl Into<Arc<str>>,
        events: impl Stream<Item = Result<Event<T>, E>> + Send + 'static,
    ) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let fault = Fault::default();
        let report = fault.clone();
        let events = events.scan(report, |report, item| {
            let event = item.map_err(|error| report.raise(PipelineError::source(error))).ok();
            std::future::ready(event)
        });
        Self(Chain::source(Node::new(NodeKind::Source, name), events, Some(fault)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;

    use crate::{Event, Flow, PipelineError};

    #[tokio::test]
    async fn an_error_of_the_source_ends_the_run_after_what_came_before_it() {
        let events = stream::iter([
            Ok(Event::detached(1)),
            Err(io::Error::other("gone")),
            Ok(Event::detached(2)),
        ]);
        let (seen, values) = std::sync::mpsc::channel();
        let run = Flow::from_try_events("broken", events)
            .sink_fn(move |value| seen.send(value).unwrap())
            .run();
        assert!(
            matches!(run.await, Err(PipelineError::Source(error)) if error.to_string() == "gone")
        );
        assert_eq!(values.iter().collect::<Vec<_>>(), [1]);
    }
}

//! `Source`: a reader of events, at which a flow begins.

mod channel;
mod interval;

use std::future::Future;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};

use crate::fault::Fault;
use crate::flow::Chain;
use crate::{Event, Flow, Node, NodeKind, PipelineError};

/// A reader of events for the start of a flow, as a [`Sink`](crate::Sink) is a writer for its end.
///
/// A source that keeps a position gives each event a [`Receipt`](crate::Receipt), and moves the
/// position when receipts are done, not when events are read. `examples/custom_source.rs` is a
/// complete example.
pub trait Source<T>: Send + 'static {
    /// The error that ends the whole pipeline. For a problem with one input, return an event whose
    /// processing fails instead.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Waits for the next event; `None` at the end of the input. Not called again after the end or
    /// after an error.
    ///
    /// The future need not be cancel safe: the flow polls it until it is ready. Only if the flow
    /// itself is dropped, the future is dropped earlier, together with the source. Inputs that were
    /// read and not settled by then must not count as processed; their receipts are dropped as
    /// well, which settles them as abandoned.
    fn next(&mut self) -> impl Future<Output = Result<Option<Event<T>>, Self::Error>> + Send;
}

impl<T: Send + 'static> Flow<T> {
    /// Creates a flow of the given values. No source waits for their outcomes.
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
        reason = "a flow can be made from more than iterators, and users expect this name"
    )]
    pub fn from_iter<I>(values: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self::values("from_iter", stream::iter(values))
    }

    /// Creates a flow of a stream's values. No source waits for their outcomes.
    pub fn from_stream(values: impl Stream<Item = T> + Send + 'static) -> Self {
        Self::values("from_stream", values)
    }

    /// Creates a flow of the events that a connector reads.
    ///
    /// - **Emits** each event that `source` returns, in order.
    /// - **Backpressures** when downstream does: `source` is asked for one event at a time.
    /// - **Completes** when `source` has no more events, or at its first error.
    /// - **On failure** of the source, [`Pipeline::run`](crate::Pipeline::run) returns the error,
    ///   after the events that were read before it have been delivered.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::convert::Infallible;
    ///
    /// use forebay_stream::{Event, Flow, Source};
    ///
    /// struct Countdown(u32);
    ///
    /// impl Source<u32> for Countdown {
    ///     type Error = Infallible;
    ///
    ///     async fn next(&mut self) -> Result<Option<Event<u32>>, Infallible> {
    ///         let Some(next) = self.0.checked_sub(1) else { return Ok(None) };
    ///         Ok(Some(Event::detached(std::mem::replace(&mut self.0, next))))
    ///     }
    /// }
    ///
    /// assert_eq!(Flow::from_source("countdown", Countdown(3)).collect().await?, [3, 2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_source(name: impl Into<Arc<str>>, source: impl Source<T>) -> Self {
        let events = stream::unfold(source, |mut source| async move {
            let event = source.next().await.transpose()?;
            Some((event, source))
        });
        Self::from_try_events(name, events)
    }

    /// Creates a flow of a stream of events that have their own metadata and receipts. For a
    /// connector that is not a stream, see [`from_source`](Flow::from_source).
    ///
    /// - **Completes** when `events` ends, or at its first error.
    /// - **On failure** of the source, [`Pipeline::run`](crate::Pipeline::run) returns the error,
    ///   after the events that were read before it have been delivered.
    pub fn from_try_events<E>(
        name: impl Into<Arc<str>>,
        events: impl Stream<Item = Result<Event<T>, E>> + Send + 'static,
    ) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let fault = Fault::default();
        let report = fault.clone();
        // Fused, here and below, because most streams must not be polled again after their end.
        let events = events.fuse().scan(report, |report, item| {
            let event = item.map_err(|error| report.raise(PipelineError::source(error))).ok();
            std::future::ready(event)
        });
        Self(Chain::source(Node::new(NodeKind::Source, name), events, Some(fault)))
    }

    fn values(name: &'static str, values: impl Stream<Item = T> + Send + 'static) -> Self {
        let events = values.fuse().map(Event::detached);
        Self(Chain::source(Node::new(NodeKind::Source, name), events, None))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use futures::stream;
    use proptest::prelude::*;

    use super::Source;
    use crate::testing::block_on;
    use crate::{Event, Flow, Outcome, PipelineError, Receipt};

    type Read = io::Result<Event<u8>>;

    /// Returns prepared results, and panics if it is called again after its end or an error.
    struct Prepared(Option<VecDeque<Read>>);

    impl Source<u8> for Prepared {
        type Error = io::Error;

        async fn next(&mut self) -> io::Result<Option<Event<u8>>> {
            tokio::task::yield_now().await;
            let mut rest = self.0.take().expect("not called again after the end");
            let next = rest.pop_front().transpose()?;
            self.0 = next.is_some().then_some(rest);
            Ok(next)
        }
    }

    /// Returns the values that were delivered, and the error of the run.
    async fn run(flow: Flow<u8>) -> (Vec<u8>, Option<String>) {
        let (seen, values) = std::sync::mpsc::channel();
        let run = flow.sink_fn(move |value| seen.send(value).unwrap()).run().await;
        let error = run.err().map(|error| match error {
            PipelineError::Source(error) => error.to_string(),
            other => panic!("{other:?}"),
        });
        (values.iter().collect(), error)
    }

    proptest! {
        #[test]
        fn an_error_of_the_source_ends_the_run_after_earlier_events_are_delivered(
            before: Vec<u8>, fails: bool, after: Vec<u8>,
        ) {
            let (outcome, outcomes) = std::sync::mpsc::channel();
            let event = |value: u8| {
                let outcome = outcome.clone();
                let receipt = Receipt::new(move |settled| drop(outcome.send((value, settled))));
                Ok(Event { receipt, ..Event::detached(value) })
            };
            let items = || -> VecDeque<Read> {
                let error = fails.then(|| Err(io::Error::other("gone")));
                before.iter().copied().map(event).chain(error).chain(after.iter().copied().map(event)).collect()
            };
            let expected = if fails { before.clone() } else { [before.clone(), after.clone()].concat() };
            let error = fails.then(|| "gone".to_owned());
            for flow in [
                Flow::from_source("prepared", Prepared(Some(items()))),
                Flow::from_try_events("prepared", stream::iter(items())),
            ] {
                prop_assert_eq!(block_on(run(flow)), (expected.clone(), error.clone()));
                let done = outcomes.try_iter().filter(|(_, settled)| *settled == Outcome::Done);
                prop_assert_eq!(done.map(|(value, _)| value).collect::<Vec<_>>(), expected.clone());
            }
        }
    }

    #[test]
    fn a_source_is_named_in_the_graph() {
        let flow = Flow::from_source("prepared", Prepared(None));
        assert_eq!(&**flow.graph().nodes()[0].name(), "prepared");
    }
}

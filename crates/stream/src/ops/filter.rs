//! `filter` and `remove`: let some values pass.

use std::future::ready;
use std::sync::Arc;

use futures::stream::{BoxStream, Stream, StreamExt as _};

use crate::failure::infallible;
use crate::{Event, Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets values pass if `keep` is true for them. For the opposite, see [`remove`](Flow::remove).
    ///
    /// - **Emits** the events that it keeps, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **Settles** the receipt of an event that is not kept as done, not as abandoned, because it
    ///   is discarded on purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter(0..6).filter(|x| x % 2 == 1).collect().await?, [1, 3, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn filter(self, keep: impl FnMut(&T) -> bool + Send + 'static) -> Self {
        self.try_filter(infallible(keep))
    }

    /// Lets values pass as [`filter`](Flow::filter) does, with a function that can fail.
    ///
    /// - **On failure** that event's receipt fails, with this stage's name; other events are not
    ///   affected.
    pub fn try_filter(
        self,
        keep: impl FnMut(&T) -> Result<bool, Failure> + Send + 'static,
    ) -> Self {
        Self(self.0.apply(NodeKind::Element, "filter", |events, stage| kept(events, stage, keep)))
    }

    /// Lets values pass if `discard` is false for them. For the opposite, see
    /// [`filter`](Flow::filter).
    ///
    /// - **Emits** the events that it does not discard, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **Settles** the receipt of a discarded event as done, not as abandoned, because it is
    ///   discarded on purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let texts = Flow::from_iter(["a", "", "b"]).remove(|text| text.is_empty());
    /// assert_eq!(texts.collect().await?, ["a", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(self, mut discard: impl FnMut(&T) -> bool + Send + 'static) -> Self {
        Self(self.0.apply(NodeKind::Element, "remove", |events, stage| {
            kept(events, stage, move |value| Ok(!discard(value)))
        }))
    }
}

fn kept<T: Send + 'static>(
    events: BoxStream<'static, Event<T>>,
    stage: Arc<str>,
    mut keep: impl FnMut(&T) -> Result<bool, Failure> + Send + 'static,
) -> impl Stream<Item = Event<T>> + Send + 'static {
    events.filter_map(move |event| {
        ready(match keep(&event.value) {
            Ok(true) => Some(event),
            Ok(false) => {
                event.receipt.done();
                None
            }
            Err(failure) => {
                event.receipt.fail(failure.at(Arc::clone(&stage)));
                None
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Flow, Outcome};

    proptest! {
        #[test]
        fn results_agree_with_iterators_and_discarded_events_are_done(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 == 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let kept = block_on(flow.filter(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }

        #[test]
        fn remove_discards_the_events_that_filter_keeps(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 != 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let rest = block_on(flow.remove(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(rest, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }

    #[test]
    fn an_event_for_which_the_function_fails_fails_alone() {
        let (flow, outcomes) = Tracked::flow([0, 1, 2]);
        let judge = |value: &i32| match value {
            1 => Err(Failure::new("one", value)),
            _ => Ok(*value == 2),
        };
        assert_eq!(block_on(flow.named("judge").try_filter(judge).collect()).unwrap(), [2]);
        let failed = Outcome::Failed(Failure::new("one", 1).at("judge"));
        assert_eq!(outcomes.all(), [Outcome::Done, failed, Outcome::Done]);
    }

    #[test]
    fn remove_and_filter_have_different_names_in_the_graph() {
        let flow = Flow::from_iter([1]).remove(|_| true).filter(|_| true);
        let names: Vec<_> = flow.graph().nodes().iter().map(|node| &**node.name()).collect();
        assert_eq!(names, ["from_iter", "remove", "filter"]);
    }
}

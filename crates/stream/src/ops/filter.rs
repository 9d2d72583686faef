//! `filter`: lets some values pass.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::failure::infallible;
use crate::{Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets values pass if `keep` is true for them.
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
        mut keep: impl FnMut(&T) -> Result<bool, Failure> + Send + 'static,
    ) -> Self {
        Self(self.0.apply(NodeKind::Element, "filter", |events, stage| {
            events.filter_map(move |event| {
                ready(match keep(&event.value) {
                    Ok(true) => Some(event),
                    Ok(false) => {
                        stage.discard(event.receipt);
                        None
                    }
                    Err(failure) => {
                        stage.fail(event.receipt, failure);
                        None
                    }
                })
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Outcome};

    proptest! {
        #[test]
        fn results_agree_with_iterators_and_discarded_events_are_done(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 == 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let kept = block_on(flow.filter(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(kept, expected);
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
}

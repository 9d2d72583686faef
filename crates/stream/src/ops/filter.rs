//! `filter`: lets some values pass.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets the values pass for which `keep` is true.
    ///
    /// - **Emits** the events that it keeps, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - An event that is not kept is done: it was discarded on purpose.
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
    pub fn filter(self, mut keep: impl FnMut(&T) -> bool + Send + 'static) -> Self {
        Self(self.0.apply(NodeKind::Element, "filter", |events, _| {
            events.filter_map(move |event| {
                if keep(&event.value) {
                    return ready(Some(event));
                }
                event.receipt.done();
                ready(None)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Outcome;
    use crate::testing::{Tracked, block_on};

    proptest! {
        #[test]
        fn agrees_with_iterators_and_what_is_dropped_is_done(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 == 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let kept = block_on(flow.filter(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

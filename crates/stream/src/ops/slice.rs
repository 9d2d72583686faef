//! `slice`: selects values by their number.

use std::future::ready;
use std::num::NonZeroUsize;

use futures::stream::StreamExt as _;

use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets every `step`th value pass, from number `start` (the first value is number 0) up to, but
    /// not including, number `end`: the meaning of `[start:end:step]` in Python.
    ///
    /// - **Emits** the chosen events, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes, and after `end` values: upstream is not asked for
    ///   another.
    /// - **Settles** the receipt of an event that is passed over as done, not as abandoned, because
    ///   it is discarded on purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// assert_eq!(Flow::from_iter(0..=5).slice(1, None, two).collect().await?, [1, 3, 5]);
    /// assert_eq!(Flow::from_iter(0..).slice(0, Some(3), two).collect().await?, [0, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn slice(self, start: usize, end: Option<usize>, step: NonZeroUsize) -> Self {
        Self(self.0.apply(NodeKind::Element, "slice", |events, stage| {
            let events = match end {
                Some(end) => events.take(end).left_stream(),
                None => events.right_stream(),
            };
            let mut to_skip = start;
            events.filter_map(move |event| {
                if to_skip == 0 {
                    to_skip = step.get() - 1;
                    return ready(Some(event));
                }
                to_skip -= 1;
                stage.discard(event.receipt);
                ready(None)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Outcome;
    use crate::testing::{Tracked, block_on, size};

    proptest! {
        #[test]
        fn results_agree_with_iterators_and_no_value_after_the_end_is_read(
            values: Vec<u8>, start in 0_usize..20, end in prop::option::of(0_usize..40), step in 1_usize..5,
        ) {
            let read = end.unwrap_or(usize::MAX).min(values.len());
            let expected: Vec<_> = values[..read].iter().copied().skip(start).step_by(step).collect();
            let (flow, outcomes) = Tracked::flow(values);
            let slice = block_on(flow.slice(start, end, size(step)).collect()).unwrap();
            prop_assert_eq!(slice, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; read]);
        }
    }

    #[test]
    fn an_end_of_0_emits_nothing_and_reads_nothing() {
        let (flow, outcomes) = Tracked::flow(0..);
        assert!(block_on(flow.slice(0, Some(0), size(1)).collect()).unwrap().is_empty());
        assert!(outcomes.all().is_empty());
    }
}

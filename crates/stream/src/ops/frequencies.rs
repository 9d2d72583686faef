//! `frequencies`: counts how often each value has come.

use std::collections::HashMap;
use std::future::ready;
use std::hash::Hash;
use std::num::NonZeroUsize;

use futures::stream::StreamExt as _;

use crate::{Failure, Flow, NodeKind, codes};

impl<T: Hash + Eq + Clone + Send + 'static> Flow<T> {
    /// Replaces each value by the counts of all values that have come, including this one. For
    /// other running results, see [`accumulate`](Flow::accumulate).
    ///
    /// - **Emits** the counts for each event, with its key and receipt. Each is a copy with one
    ///   entry per distinct value.
    /// - **Backpressures** when downstream does; holds the counts of at most `capacity` distinct
    ///   values.
    /// - **Completes** when upstream completes.
    /// - **On failure**: a new value beyond `capacity` fails with `too_many_values`, so that the
    ///   counts of the others stay exact.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let capacity = at_most(100);
    /// let counts = Flow::from_iter(["a", "b", "a"]).frequencies(capacity).collect().await?;
    /// assert_eq!(counts[2], [("a", 2), ("b", 1)].into());
    /// # Ok(())
    /// # }
    /// ```
    pub fn frequencies(self, capacity: NonZeroUsize) -> Flow<HashMap<T, u64>> {
        Flow(self.0.apply(NodeKind::Element, "frequencies", |events, stage| {
            let mut counts = HashMap::new();
            events.filter_map(move |event| {
                let (value, rest) = event.take();
                if counts.len() == capacity.get() && !counts.contains_key(&value) {
                    let message = format_args!("{capacity} other values are being counted");
                    stage.fail(rest.receipt, Failure::new(codes::TOO_MANY_VALUES, message));
                    return ready(None);
                }
                *counts.entry(value).or_default() += 1;
                ready(Some(rest.with(counts.clone())))
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};

    proptest! {
        #[test]
        fn counts_agree_with_a_loop_and_values_beyond_the_capacity_fail(
            values in prop::collection::vec(0_u8..8, 0..60), capacity in 1_usize..10,
        ) {
            let mut counts = HashMap::<u8, u64>::new();
            let mut expected = Vec::new();
            let mut codes = Vec::new();
            for value in &values {
                if counts.contains_key(value) || counts.len() < capacity {
                    *counts.entry(*value).or_default() += 1;
                    expected.push(counts.clone());
                    codes.push("done");
                } else {
                    codes.push("too_many_values");
                }
            }
            let (flow, outcomes) = Tracked::flow(values);
            prop_assert_eq!(block_on(flow.frequencies(size(capacity)).collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.codes(), codes);
        }
    }
}

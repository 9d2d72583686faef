//! `union`: merges flows.

use std::future::ready;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use crate::merge::{Merge, Side};
use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Merges another flow into this one.
    ///
    /// - **Emits** the events of both as they come; fair between them, in order within each. If
    ///   both are branches of one flow without an operator that waits or works asynchronously, the
    ///   events of both come in the order in which they entered the branches; with such an operator
    ///   only if [`waiting`](Flow::waiting) says how long to wait for the slower branch.
    /// - **Backpressures** both when downstream does; holds nothing. A stalled flow does not stall
    ///   the other.
    /// - **Completes** when both have completed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let mut both = Flow::from_iter([1, 2]).union(Flow::from_iter([3])).collect().await?;
    /// both.sort_unstable();
    /// assert_eq!(both, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn union(mut self, other: Self) -> Self {
        // A branch that works asynchronously, such as a model's, must not keep the other waiting.
        // Without an order, events get no marks.
        let waits = self.0.wait_for(&other.0, Duration::ZERO).is_some_and(|wait| !wait.is_zero());
        let (other, other_tail, order) = if waits {
            self.0.absorb_in_order(other.0, Duration::ZERO)
        } else {
            let (other, other_tail) = self.0.absorb(other.0);
            (other, other_tail, None)
        };
        let mut union = self.0.apply(NodeKind::Junction, "union", |events, stage| match order {
            None => stream::select(events, other).boxed(),
            Some((order, wait)) => Merge::new(events, other, order, wait, stage)
                .filter_map(|side| {
                    ready(match side {
                        Side::First(event) | Side::Second(event) => event,
                    })
                })
                .boxed(),
        });
        union.graph.connect(other_tail, union.tail);
        Self(union)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Flow;
    use crate::testing::block_on;

    proptest! {
        #[test]
        fn the_order_within_each_input_is_kept(left: Vec<u8>, right: Vec<u8>) {
            let tag = |side, values: Vec<u8>| Flow::from_iter(values).map(move |value| (side, value));
            let both = block_on(tag(0, left.clone()).union(tag(1, right.clone())).collect()).unwrap();
            let side = |wanted| -> Vec<u8> {
                both.iter().filter(|(side, _)| *side == wanted).map(|(_, value)| *value).collect()
            };
            prop_assert_eq!(side(0), left);
            prop_assert_eq!(side(1), right);
        }
    }

    #[test]
    fn the_graph_shows_both_inputs_of_the_operator() {
        let flow = Flow::from_iter([1]).map(|x| x).union(Flow::from_iter([2]));
        assert_eq!(flow.graph().edges().collect::<Vec<_>>(), [(0, 1), (1, 3), (2, 3)]);
    }
}

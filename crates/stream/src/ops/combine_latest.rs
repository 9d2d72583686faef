//! `combine_latest`: pairs the newest events of two flows whenever one of them changes.

use std::future::ready;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use crate::fork::Marks;
use crate::latest::{Latest, pair};
use crate::merge::{Merge, Side, WAIT};
use crate::stage::Stage;
use crate::{Event, Flow, Meta, NodeKind};

/// The side whose events make [`combine_latest`](Flow::combine_latest) emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitOn {
    /// Either side.
    Any,
    /// The flow on which it is called.
    First,
    /// The other flow.
    Second,
}

impl<T: Clone + Send + 'static> Flow<T> {
    /// Pairs the newest events of two flows whenever one changes. To see every event of one flow
    /// exactly once, see [`zip_latest`](Flow::zip_latest).
    ///
    /// - **Emits** a pair when an event comes on a side that `emit_on` names and the other side has
    ///   had one, with the metadata of the event that came and the receipts of both.
    ///   If both are branches of one flow, events count in the order in which they entered the
    ///   branches, so that the same input gives the same pairs. A branch that holds events back, in
    ///   a window or in asynchronous work, is waited for [up to](Flow::waiting) 100 ms; after that
    ///   events count as they come, until the branch has caught up.
    /// - **Backpressures** both when downstream does; fair between them; holds the newest event of
    ///   each.
    /// - **Completes** when the sides that `emit_on` names have completed, or when one side has
    ///   completed without a single event.
    /// - An input is done when a newer one has superseded it and every pair that contains it is
    ///   done. It stays unresolved while it is the newest, and at the end if it was never in a
    ///   pair. If that would hold back a source for long, [`detach`](Flow::detach) that side.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{EmitOn, Flow};
    ///
    /// let (numbers, letters) = (Flow::from_iter([1, 2]), Flow::from_iter(["a", "b"]));
    /// let pairs = numbers.combine_latest(letters, EmitOn::Any);
    /// assert_eq!(pairs.collect().await?, [(1, "a"), (2, "a"), (2, "b")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn combine_latest<U: Clone + Send + 'static>(
        mut self,
        other: Flow<U>,
        emit_on: EmitOn,
    ) -> Flow<(T, U)> {
        let (other, other_tail, order) = self.0.absorb_in_order(other.0, WAIT);
        let mut joined = self.0.apply(NodeKind::Junction, "combine_latest", |events, stage| {
            let newest = Newest {
                first: Latest::new(stage.clone()),
                second: Latest::new(stage.clone()),
                ended: [false; 2],
                stage: stage.clone(),
            };
            let changes = if let Some((order, wait)) = order {
                Merge::new(events, other, order, wait, stage).boxed()
            } else {
                let first = events.map(|event| Side::First(Some(event)));
                let second = other.map(|event| Side::Second(Some(event)));
                let first = first.chain(stream::iter([Side::First(None)]));
                let second = second.chain(stream::iter([Side::Second(None)]));
                stream::select(first, second).boxed()
            };
            changes
                .scan(newest, move |newest, change| {
                    ready(newest.change(change, emit_on).continue_value())
                })
                .filter_map(ready)
        });
        joined.graph.connect(other_tail, joined.tail);
        Flow(joined)
    }
}

type Step<T, U> = ControlFlow<(), Option<Event<(T, U)>>>;

struct Newest<T, U> {
    first: Latest<T>,
    second: Latest<U>,
    ended: [bool; 2],
    stage: Stage,
}

impl<T: Clone, U: Clone> Newest<T, U> {
    /// Takes in a change and returns the pair to emit, if any; breaks when there will be no further
    /// pair.
    fn change(&mut self, change: Side<T, U>, emit_on: EmitOn) -> Step<T, U> {
        match change {
            Side::First(Some(mut event)) => {
                let meta = Arc::clone(&event.meta);
                let marks = std::mem::take(&mut event.receipt.marks);
                self.first.replace(event);
                Step::Continue(self.pair(emit_on != EmitOn::Second, meta, marks))
            }
            Side::Second(Some(mut event)) => {
                let meta = Arc::clone(&event.meta);
                let marks = std::mem::take(&mut event.receipt.marks);
                self.second.replace(event);
                Step::Continue(self.pair(emit_on != EmitOn::First, meta, marks))
            }
            Side::First(None) => self.end(0, emit_on),
            Side::Second(None) => self.end(1, emit_on),
        }
    }

    /// Returns the pair of the newest events if both sides have one, with the metadata and the
    /// place of the event that has just come.
    fn pair(&mut self, emits: bool, meta: Arc<Meta>, marks: Marks) -> Option<Event<(T, U)>> {
        if !emits || self.first.is_empty() || self.second.is_empty() {
            return None;
        }
        let mut both = pair(self.first.show()?, self.second.show()?, &self.stage);
        both.receipt.marks = marks;
        Some(Event { meta, ..both })
    }

    fn end(&mut self, side: usize, emit_on: EmitOn) -> Step<T, U> {
        self.ended[side] = true;
        let [first, second] = self.ended;
        let waits_in_vain = first && self.first.is_empty() || second && self.second.is_empty();
        let over = match emit_on {
            EmitOn::Any => first && second,
            EmitOn::First => first,
            EmitOn::Second => second,
        };
        if over || waits_in_vain {
            self.first.finish();
            self.second.finish();
            return Step::Break(());
        }
        Step::Continue(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::EmitOn;
    use crate::Flow;
    use crate::testing::{Tracked, block_on, timed};

    #[tokio::test(start_paused = true)]
    async fn only_the_named_side_emits() {
        let pairs = |emit_on| {
            let first = Flow::from_stream(timed(vec![1, 4, 6]));
            first.combine_latest(Flow::from_stream(timed(vec![2, 3, 5])), emit_on).collect()
        };
        let expected = [(1, 2), (1, 3), (4, 3), (4, 5), (6, 5)];
        assert_eq!(pairs(EmitOn::Any).await.unwrap(), expected);
        assert_eq!(pairs(EmitOn::First).await.unwrap(), [(4, 3), (6, 5)]);
        assert_eq!(pairs(EmitOn::Second).await.unwrap(), [(1, 2), (1, 3), (4, 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_event_is_open_until_it_is_superseded_or_the_flow_ends() {
        let (first, outcomes) = Tracked::stream(timed(vec![1, 4, 6]));
        let second = Flow::from_stream(timed(vec![2, 3, 5]));
        let codes = outcomes.clone();
        let pairs = first.combine_latest(second, EmitOn::Any).map(move |_| codes.codes());
        let seen = pairs.collect().await.unwrap();
        assert_eq!(seen[1], ["open"]);
        assert_eq!(seen[2], ["done", "open"]);
        assert_eq!(outcomes.codes(), ["done"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_ends_without_a_value_ends_the_flow() {
        let (first, outcomes) = Tracked::stream(stream::iter([1]).chain(stream::pending()));
        let pairs = first.combine_latest(Flow::from_iter([0; 0]), EmitOn::Any).collect();
        let pairs = timeout(Duration::from_secs(1), pairs).await.expect("the flow ends");
        assert!(pairs.unwrap().is_empty());
        assert_eq!(outcomes.codes(), ["abandoned"], "it was in no pair");
    }

    proptest! {
        #[test]
        fn pairs_agree_with_a_loop_over_the_merged_sides(
            gaps in prop::collection::vec((1_u64..5, any::<bool>()), 0..40),
        ) {
            let at = gaps.iter().scan(0, |now, (gap, side)| { *now += gap; Some((*now, *side)) });
            let at: Vec<_> = at.collect();
            let side = |wanted| at.iter().filter(|(_, side)| *side == wanted).map(|(at, _)| *at).collect::<Vec<_>>();
            let mut first = None;
            let mut second = None;
            let mut expected = Vec::new();
            for &(at, is_second) in &at {
                *(if is_second { &mut second } else { &mut first }) = Some(at);
                expected.extend(first.zip(second));
            }
            let left = side(false);
            let right = side(true);
            let paired = !left.is_empty() && !right.is_empty();
            let (pairs, outcomes) = block_on(async {
                let (first, outcomes) = Tracked::stream(timed(left));
                let second = Flow::from_stream(timed(right));
                (first.combine_latest(second, EmitOn::Any).collect().await.unwrap(), outcomes)
            });
            prop_assert_eq!(pairs, expected);
            prop_assert!(!paired || outcomes.codes().iter().all(|code| code == "done"));
        }
    }
}

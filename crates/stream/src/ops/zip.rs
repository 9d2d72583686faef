//! `zip`: pairs the events of two flows, one by one.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};

use crate::clock::Stall;
use crate::latest::pair;
use crate::stage::Stage;
use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Pairs the events of two flows, the first with the first and so on. To pair with the newest
    /// event instead, see [`combine_latest`](Flow::combine_latest) and
    /// [`zip_latest`](Flow::zip_latest); to add a constant, [`map`](Flow::map).
    ///
    /// - **Emits** a pair when both sides have an event, with the metadata of this flow's event and
    ///   the receipts of both.
    /// - **Backpressures** both when downstream does, and a side that is `capacity` events ahead;
    ///   holds at most that many of each. If both sides come from one source, and one side has to
    ///   get further ahead than that before the other has an event, both wait for ever; after 10 s
    ///   a warning is logged.
    /// - **Completes** when one side has completed and all its events are paired. Events of the
    ///   other side that are left over are abandoned, and so are read again.
    /// - **On failure** of a pair, both its inputs fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    ///
    /// use forebay_stream::Flow;
    ///
    /// let pairs = Flow::from_iter([1, 2, 3]).zip(Flow::from_iter(["a", "b"]), NonZeroUsize::MIN);
    /// assert_eq!(pairs.collect().await?, [(1, "a"), (2, "b")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zip<U: Send + 'static>(
        mut self,
        other: Flow<U>,
        capacity: NonZeroUsize,
    ) -> Flow<(T, U)> {
        let (other, other_tail) = self.0.absorb(other.0);
        let mut joined = self.0.apply(NodeKind::Junction, "zip", |events, stage| Zip {
            first: Side::new(events),
            second: Side::new(other),
            capacity: capacity.get(),
            stage,
            stall: Stall::default(),
        });
        joined.graph.connect(other_tail, joined.tail);
        Flow(joined)
    }
}

/// The state machine behind [`Flow::zip`]. Each poll takes the events that both sides have ready,
/// up to the capacity, and emits a pair if each side has an event. It ends when one side has ended
/// and all its events are paired.
struct Zip<T, U> {
    first: Side<T>,
    second: Side<U>,
    capacity: usize,
    stage: Stage,
    stall: Stall,
}

struct Side<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    // Invariant: never longer than the capacity.
    ahead: VecDeque<Event<T>>,
    ended: bool,
}

impl<T> Side<T> {
    fn new(events: BoxStream<'static, Event<T>>) -> Self {
        Self { upstream: events.fuse(), ahead: VecDeque::new(), ended: false }
    }

    fn fill(&mut self, capacity: usize, cx: &mut Context<'_>) {
        while self.ahead.len() < capacity
            && !self.ended
            && let Poll::Ready(next) = self.upstream.poll_next_unpin(cx)
        {
            self.ended = next.is_none();
            self.ahead.extend(next);
        }
    }

    fn is_over(&self) -> bool {
        self.ended && self.ahead.is_empty()
    }
}

impl<T, U> Unpin for Zip<T, U> {}

impl<T, U> Stream for Zip<T, U> {
    type Item = Event<(T, U)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.first.fill(this.capacity, cx);
        this.second.fill(this.capacity, cx);
        if this.first.is_over() || this.second.is_over() {
            return Poll::Ready(None);
        }
        if this.first.ahead.is_empty() || this.second.ahead.is_empty() {
            let ahead = this.first.ahead.len().max(this.second.ahead.len());
            if this.stall.poll(ahead == this.capacity, cx).is_ready() {
                tracing::warn!(
                    stage = &**this.stage.name(),
                    ahead,
                    "one side emits nothing and the other is as far ahead as its capacity allows; if \
                     both sides come from one source, this stage may wait for ever: raise the \
                     capacity, or use zip_latest"
                );
            }
            return Poll::Pending;
        }
        // A pair is progress, however long the sides waited for each other before.
        let _ = this.stall.poll(false, cx);
        let both = this.first.ahead.pop_front().zip(this.second.ahead.pop_front());
        Poll::Ready(both.map(|(first, second)| pair(first, second, &this.stage)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow};

    proptest! {
        #[test]
        fn pairs_agree_with_iterators_and_only_events_read_ahead_are_left_over(
            left: Vec<u8>, right: Vec<u8>, capacity in 1_usize..5,
        ) {
            let (first, first_outcomes) = Tracked::flow(left.clone());
            let (second, second_outcomes) = Tracked::flow(right.clone());
            let pairs = block_on(first.zip(second, size(capacity)).collect()).unwrap();
            let count = pairs.len();
            prop_assert_eq!(pairs, left.into_iter().zip(right).collect::<Vec<_>>());
            for codes in [first_outcomes.codes(), second_outcomes.codes()] {
                prop_assert!(codes.len() <= count + capacity);
                prop_assert!(codes[..count].iter().all(|code| code == "done"));
                prop_assert!(codes[count..].iter().all(|code| code == "abandoned"));
            }
        }
    }

    #[test]
    fn a_pair_that_fails_fails_both_its_inputs_and_no_others() {
        let (first, first_outcomes) = Tracked::flow([1, 2]);
        let (second, second_outcomes) = Tracked::flow([3, 4]);
        let refuse = |both| if both == (1, 3) { Err(Failure::new("no", "1")) } else { Ok(both) };
        block_on(first.zip(second, size(1)).try_map(refuse).collect()).unwrap();
        assert_eq!(first_outcomes.codes(), ["no", "done"]);
        assert_eq!(second_outcomes.codes(), ["no", "done"]);
    }

    #[test]
    fn a_flow_can_be_paired_with_itself() {
        let (flow, outcomes) = Tracked::flow(0..20);
        let [left, right] = flow.branch(size(1));
        let pairs = left.zip(right.map(|value| value * 2), size(1));
        let expected: Vec<_> = (0..20).map(|value| (value, value * 2)).collect();
        assert_eq!(block_on(pairs.collect()).unwrap(), expected);
        assert_eq!(outcomes.codes(), ["done"; 20]);
    }

    #[test]
    fn the_graph_shows_both_inputs_of_the_operator() {
        let flow = Flow::from_iter([1]).zip(Flow::from_iter([2]), size(1));
        assert_eq!(flow.graph().edges().collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    }
}

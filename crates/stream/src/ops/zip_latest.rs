//! `zip_latest`: pairs every event of one flow with the newest event of another.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};

use crate::clock::Stall;
use crate::fork::Marks;
use crate::latest::{Latest, pair};
use crate::merge::{Merge, Side, WAIT};
use crate::stage::Stage;
use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Pairs every event of this flow, exactly once, with the newest event of another, such as
    /// requests with the settings that are valid when they come. To emit when the other changes
    /// too, see [`combine_latest`](Flow::combine_latest).
    ///
    /// - **Emits** a pair for each event of this flow, with its metadata and the receipts of both.
    /// - **Backpressures** this flow when downstream does, and until the other has its first event;
    ///   holds one event of each. If both come from one source, the other flow's first event must
    ///   come before this flow holds up the source; after a wait of 10 s a warning is logged.
    /// - **Completes** when this flow completes, or when the other completes without a single
    ///   event; an event that waited for it then stays unresolved.
    /// - An input of the other flow is done when a newer one has superseded it and every pair that
    ///   contains it is done; until then it stays unresolved. If that would hold back its source
    ///   for long, [`detach`](Flow::detach) that side.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let pairs = Flow::from_iter([1, 2]).zip_latest(Flow::from_iter(["old", "new"]));
    /// assert_eq!(pairs.collect().await?, [(1, "new"), (2, "new")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn zip_latest<U: Clone + Send + 'static>(mut self, other: Flow<U>) -> Flow<(T, U)> {
        let (other, other_tail, order) = self.0.absorb_in_order(other.0, WAIT);
        let mut joined =
            self.0.apply(NodeKind::Junction, "zip_latest", |events, stage| match order {
                Some((order, wait)) => InOrder {
                    sides: Merge::new(events, other, order, wait, stage.clone()),
                    latest: Latest::new(stage.clone()),
                    wait_for_first: Stalled::new(stage),
                }
                .boxed(),
                None => ZipLatest {
                    upstream: events.fuse(),
                    other: other.fuse(),
                    held: None,
                    latest: Latest::new(stage.clone()),
                    wait_for_first: Stalled::new(stage),
                }
                .boxed(),
            });
        joined.graph.connect(other_tail, joined.tail);
        Flow(joined)
    }
}

/// The maximum number of events of the other flow that are taken in one poll, because a flow that
/// is always ready must not keep this one waiting.
const TURN: usize = 64;

/// The state machine behind [`Flow::zip_latest`]. Each poll takes the newest event of the other
/// flow, then an event of this flow, and emits a pair once it has both.
struct ZipLatest<T, U> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    other: Fuse<BoxStream<'static, Event<U>>>,
    // Invariant: between polls, `Some` only while the other flow has had no event.
    held: Option<Event<T>>,
    latest: Latest<U>,
    wait_for_first: Stalled,
}

impl<T, U> Unpin for ZipLatest<T, U> {}

impl<T, U: Clone> Stream for ZipLatest<T, U> {
    type Item = Event<(T, U)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut other_ended = false;
        let mut left = TURN;
        while left > 0
            && let Poll::Ready(next) = this.other.poll_next_unpin(cx)
        {
            let Some(event) = next else {
                other_ended = true;
                break;
            };
            this.latest.replace(event);
            left -= 1;
        }
        if this.held.is_none() {
            match this.upstream.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => this.held = Some(event),
                Poll::Ready(None) => {
                    this.latest.finish();
                    return Poll::Ready(None);
                }
                Poll::Pending if left == 0 => cx.waker().wake_by_ref(),
                Poll::Pending => {}
            }
        }
        if this.latest.is_empty() && other_ended {
            return Poll::Ready(None);
        }
        if this.held.is_none() {
            return Poll::Pending;
        }
        let Some(latest) = this.latest.show() else {
            this.wait_for_first.poll(cx);
            return Poll::Pending;
        };
        Poll::Ready(this.held.take().map(|event| pair(event, latest, &this.wait_for_first.stage)))
    }
}

/// The state machine behind [`Flow::zip_latest`] for two branches of one flow: takes their events in
/// the order in which they entered the branches.
struct InOrder<T, U> {
    sides: Merge<T, U>,
    latest: Latest<U>,
    wait_for_first: Stalled,
}

impl<T, U> Unpin for InOrder<T, U> {}

impl<T, U: Clone> Stream for InOrder<T, U> {
    type Item = Event<(T, U)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Events of this flow from before the other's first event wait in their branch.
            if this.latest.is_empty() {
                match this.sides.poll_second(cx) {
                    Poll::Ready(Some(event)) => this.newest(event),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {
                        this.wait_for_first.poll(cx);
                        return Poll::Pending;
                    }
                }
            }
            match ready!(this.sides.poll_next_unpin(cx)) {
                Some(Side::First(Some(event))) => {
                    let latest = this.latest.show();
                    return Poll::Ready(
                        latest.map(|latest| pair(event, latest, &this.wait_for_first.stage)),
                    );
                }
                Some(Side::Second(Some(event))) => this.newest(event),
                Some(Side::Second(None)) => {}
                Some(Side::First(None)) | None => {
                    this.latest.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl<T, U> InOrder<T, U> {
    fn newest(&mut self, mut event: Event<U>) {
        // A pair has the place of its first event.
        event.receipt.marks = Marks::NONE;
        self.latest.replace(event);
    }
}

/// Warns once if the other flow's first event takes long.
struct Stalled {
    stall: Stall,
    stage: Stage,
}

impl Stalled {
    fn new(stage: Stage) -> Self {
        Self { stall: Stall::default(), stage }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.stall.poll(true, cx).is_ready() {
            tracing::warn!(
                stage = &**self.stage.name(),
                "the other side has emitted nothing yet; if both sides come from one source, this \
                 stage may wait for ever"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Flow;
    use crate::testing::{Tracked, block_on, size, timed};

    #[tokio::test(start_paused = true)]
    async fn early_events_wait_for_the_first_event_of_the_other_flow() {
        let (flow, outcomes) = Tracked::stream(timed(vec![0, 1, 7, 9]));
        let other = Flow::from_stream(timed(vec![5, 8]));
        assert_eq!(
            flow.zip_latest(other).collect().await.unwrap(),
            [(0, 5), (1, 5), (7, 5), (9, 8)]
        );
        assert_eq!(outcomes.codes(), ["done"; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_event_is_open_until_it_is_superseded_or_the_flow_ends() {
        let (other, outcomes) = Tracked::stream(timed(vec![0, 4, 5]));
        let codes = outcomes.clone();
        let flow = Flow::from_stream(timed(vec![1, 2, 7]));
        let seen = flow.zip_latest(other).map(move |_| codes.codes()).collect().await.unwrap();
        assert_eq!(seen, [vec!["open"], vec!["open"], vec!["done", "done", "open"]]);
        assert_eq!(outcomes.codes(), ["done"; 3]);
    }

    #[test]
    fn without_an_event_of_the_other_flow_nothing_is_emitted_or_lost() {
        let (flow, outcomes) = Tracked::flow(0..9);
        let pairs = flow.zip_latest(Flow::from_iter([0; 0])).collect();
        assert!(block_on(pairs).unwrap().is_empty());
        assert_eq!(outcomes.codes(), ["abandoned"], "the one that waited");
    }

    #[test]
    fn an_other_flow_that_never_pauses_does_not_starve_this_one() {
        let pairs = Flow::from_iter(0..3).zip_latest(Flow::from_iter(0_u64..));
        let pairs = pairs.slice(0, Some(3), size(1)).map(|(value, _)| value);
        assert_eq!(block_on(pairs.collect()).unwrap(), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn every_event_is_paired_once_with_the_newest_event_at_its_time(
            gaps in prop::collection::vec(1_u64..20, 0..30), other_gaps in prop::collection::vec(1_u64..20, 0..30),
        ) {
            // Events of this flow come at even times and those of the other at odd times, so that
            // no two come at the same time.
            let times = |gaps: &[u64], offset: u64| -> Vec<u64> {
                gaps.iter().scan(0, |now, gap| { *now += 2 * gap; Some(*now + offset) }).collect()
            };
            let others = [vec![1], times(&other_gaps, 1)].concat();
            let events = times(&gaps, 0);
            let newest = |at| *others.iter().rev().find(|other| **other < at).unwrap();
            let expected: Vec<_> = events.iter().map(|&at| (at, newest(at))).collect();
            let (pairs, outcomes) = block_on(async {
                let (flow, outcomes) = Tracked::stream(timed(events.clone()));
                (flow.zip_latest(Flow::from_stream(timed(others.clone()))).collect().await.unwrap(), outcomes)
            });
            prop_assert_eq!(pairs, expected);
            prop_assert_eq!(outcomes.codes(), vec!["done"; events.len()]);
        }
    }
}

//! `collect_until`: batches that an event of another flow closes.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use tokio::task::coop;

use crate::dispatches::{Dispatches, Reason};
use crate::merge::{Merge, Side, WAIT};
use crate::stage::Stage;
use crate::{Batches, Empty, Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Gathers events until an event comes in the flow `flush`. To collect the whole input at its
    /// end, see [`collect`](Flow::collect); to flush by time, [`timed_window`](Flow::timed_window).
    ///
    /// - **Emits** the gathered events at each event of `flush`, and when there are `max_size` of
    ///   them. If there are none, an event of `flush` emits an empty batch only with
    ///   [`Empty::Emit`].
    ///   If both flows are branches of one flow, events and flushes count in the order in which
    ///   they entered the branches. A branch that holds events back, in a window or in asynchronous
    ///   work, is waited for [up to](Flow::waiting) 100 ms.
    /// - **Backpressures** both when downstream does; holds at most `max_size` events.
    /// - **Completes** when upstream completes, after the events it holds. When `flush` completes
    ///   first, upstream is still gathered to its end.
    /// - An event of `flush` is done as soon as this operator has taken it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Empty, Flow};
    /// use futures::stream::{self, StreamExt};
    ///
    /// let pause = || tokio::time::sleep(Duration::from_millis(20));
    /// let numbers = stream::iter([1, 2]).chain(stream::once(async move { pause().await; 3 }));
    /// let flush = stream::once(async { tokio::time::sleep(Duration::from_millis(5)).await });
    ///
    /// let max_size = NonZeroUsize::new(100).expect("100 is not 0");
    /// let batches = Flow::from_stream(numbers).collect_until(Flow::from_stream(flush), max_size, Empty::Skip);
    /// assert_eq!(batches.into_lists().collect().await?, [vec![1, 2], vec![3]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect_until<S: Send + 'static>(
        mut self,
        flush: Flow<S>,
        max_size: NonZeroUsize,
        empty: Empty,
    ) -> Batches<T> {
        let (flush, flush_tail, order) = self.0.absorb_in_order(flush.0, WAIT);
        let max_size = max_size.get();
        let mut joined =
            self.0.apply(NodeKind::Window, "collect_until", |events, stage| match order {
                Some((order, wait)) => InOrder {
                    window: Window::new(&stage),
                    sides: Merge::new(events, flush, order, wait, stage.clone()),
                    stage,
                    max_size,
                    empty,
                    ended: false,
                }
                .boxed(),
                None => CollectUntil {
                    upstream: events.fuse(),
                    window: Window::new(&stage),
                    stage,
                    flush: flush.fuse(),
                    max_size,
                    empty,
                    just_full: false,
                }
                .boxed(),
            });
        joined.graph.connect(flush_tail, joined.tail);
        Batches(joined)
    }
}

/// The events of the next batch.
struct Window<T> {
    events: Vec<Event<T>>,
    dispatches: Dispatches,
}

impl<T> Window<T> {
    fn new(stage: &Stage) -> Self {
        let dispatches = Dispatches::new(stage, &[Reason::Size, Reason::Flush, Reason::Drain]);
        Self { events: Vec::new(), dispatches }
    }

    fn put(&mut self, event: Event<T>) {
        self.dispatches.came();
        self.events.push(event);
    }

    fn take(&mut self, reason: Reason) -> Poll<Option<Vec<Event<T>>>> {
        let events = std::mem::take(&mut self.events);
        self.dispatches.count(reason, events.len());
        Poll::Ready(Some(events))
    }
}

/// The state machine behind [`Flow::collect_until`]. The window leaves when it is full, at a flush,
/// or when upstream ends.
struct CollectUntil<T, S> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    stage: Stage,
    flush: Fuse<BoxStream<'static, Event<S>>>,
    // Invariant: shorter than `max_size` between polls.
    window: Window<T>,
    max_size: usize,
    empty: Empty,
    // Set after a full window: the flush is then polled first, because a busy upstream would
    // otherwise keep it waiting for ever. In all other polls events go first, so that a flush that
    // is ready with them takes them all.
    just_full: bool,
}

impl<T, S> Unpin for CollectUntil<T, S> {}

impl<T, S> CollectUntil<T, S> {
    /// Takes an event of `flush` if one is ready. Returns whether a batch is due because of it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some(flush)) = self.flush.poll_next_unpin(cx) else { return false };
        self.stage.spend(flush.receipt);
        let due = !self.window.events.is_empty() || self.empty == Empty::Emit;
        if !due {
            // The next event of `flush` is taken in another poll, because a `flush` that is always
            // ready must not keep this task from yielding.
            cx.waker().wake_by_ref();
        }
        due
    }
}

impl<T, S> Stream for CollectUntil<T, S> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.just_full {
            // If upstream has used up the budget that tokio gives a task before it has to yield,
            // `flush` is pending although it has an event. The operator therefore waits for new
            // budget first.
            drop(ready!(coop::poll_proceed(cx)));
            this.just_full = false;
            if this.poll_flush(cx) {
                return this.window.take(Reason::Flush);
            }
        }
        while let Poll::Ready(next) = this.upstream.poll_next_unpin(cx) {
            match next {
                Some(event) => this.window.put(event),
                None if this.window.events.is_empty() => return Poll::Ready(None),
                None => return this.window.take(Reason::Drain),
            }
            if this.window.events.len() == this.max_size {
                this.just_full = true;
                return this.window.take(Reason::Size);
            }
        }
        if this.poll_flush(cx) { this.window.take(Reason::Flush) } else { Poll::Pending }
    }
}

/// The state machine behind [`Flow::collect_until`] for two branches of one flow: takes events and
/// flushes in the order in which they entered the branches.
struct InOrder<T, S> {
    sides: Merge<T, S>,
    stage: Stage,
    // Invariant: shorter than `max_size` between polls.
    window: Window<T>,
    max_size: usize,
    empty: Empty,
    // Whether upstream has ended.
    ended: bool,
}

impl<T, S> Unpin for InOrder<T, S> {}

impl<T, S> Stream for InOrder<T, S> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.ended {
            let due = match ready!(this.sides.poll_next_unpin(cx)) {
                Some(Side::First(Some(event))) => {
                    this.window.put(event);
                    (this.window.events.len() == this.max_size).then_some(Reason::Size)
                }
                Some(Side::Second(Some(flush))) => {
                    this.stage.spend(flush.receipt);
                    let is_due = !this.window.events.is_empty() || this.empty == Empty::Emit;
                    is_due.then_some(Reason::Flush)
                }
                Some(Side::Second(None)) => None,
                Some(Side::First(None)) => {
                    this.ended = true;
                    if this.window.events.is_empty() {
                        return Poll::Ready(None);
                    }
                    Some(Reason::Drain)
                }
                None => return Poll::Ready(None),
            };
            if let Some(reason) = due {
                return this.window.take(reason);
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size, timed};
    use crate::{Empty, Flow, Outcome};

    async fn batches(
        events: &[u64],
        flushes: &[u64],
        max_size: usize,
        empty: Empty,
    ) -> Vec<Vec<u64>> {
        let (flow, outcomes) = Tracked::stream(timed(events.to_vec()));
        let (flush, obeyed) = Tracked::stream(timed(flushes.to_vec()));
        let lists = flow.collect_until(flush, size(max_size), empty).into_lists();
        let lists = lists.collect().await.unwrap();
        assert_eq!(outcomes.all(), vec![Outcome::Done; events.len()]);
        assert!(obeyed.all().iter().all(|outcome| *outcome == Outcome::Done));
        lists
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_without_events_emits_nothing_unless_asked() {
        let seen = batches(&[1, 2, 9], &[0, 5, 6], 10, Empty::Skip).await;
        assert_eq!(seen, [vec![1, 2], vec![9]]);
        let seen = batches(&[1, 2, 9], &[0, 5, 6], 10, Empty::Emit).await;
        assert_eq!(seen, [vec![], vec![1, 2], vec![], vec![9]]);
    }

    #[test]
    fn a_busy_upstream_does_not_keep_a_flush_waiting() {
        let (flush, flushed) = Tracked::flow([()]);
        let flow = Flow::from_iter(0..).collect_until(flush, size(2), Empty::Skip);
        let lists = flow.into_lists().slice(0, Some(2), size(1)).collect();
        assert_eq!(block_on(lists).unwrap(), [[0, 1], [2, 3]]);
        assert_eq!(flushed.all(), [Outcome::Done]);
    }

    proptest! {
        #[test]
        fn batches_agree_with_a_list_that_is_cut_at_each_flush_and_at_the_maximum_size(
            gaps in prop::collection::vec(1_u64..20, 0..40),
            flush_gaps in prop::collection::vec(1_u64..30, 0..20),
            max_size in 1_usize..8,
        ) {
            // Events come at even times and flushes at odd times, so that no two come at the same
            // time.
            let times = |gaps: Vec<u64>, offset| -> Vec<u64> {
                gaps.iter().scan(0, |now, gap| { *now += 2 * gap; Some(*now + offset) }).collect()
            };
            let events = times(gaps, 0);
            let flushes = times(flush_gaps, 1);
            let mut expected = vec![Vec::new()];
            let mut told = flushes.iter().peekable();
            for &event in &events {
                while told.next_if(|flush| **flush < event).is_some() {
                    expected.push(Vec::new());
                }
                expected.last_mut().unwrap().push(event);
                if expected.last().unwrap().len() == max_size {
                    expected.push(Vec::new());
                }
            }
            expected.retain(|batch| !batch.is_empty());
            let seen = block_on(async { batches(&events, &flushes, max_size, Empty::Skip).await });
            prop_assert_eq!(seen, expected);
        }
    }
}

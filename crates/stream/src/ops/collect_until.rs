//! `collect_until`: batches that an event of another flow closes.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use tokio::task::coop;

use crate::merge::{Merge, Side, WAIT};
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
                    sides: Merge::new(events, flush, order, wait, stage),
                    window: Vec::new(),
                    max_size,
                    empty,
                    ended: false,
                }
                .boxed(),
                None => CollectUntil {
                    upstream: events.fuse(),
                    flush: flush.fuse(),
                    window: Vec::new(),
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

/// The state machine behind [`Flow::collect_until`]. The window leaves when it is full, at a flush,
/// or when upstream ends.
struct CollectUntil<T, S> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    flush: Fuse<BoxStream<'static, Event<S>>>,
    // Invariant: shorter than `max_size` between polls.
    window: Vec<Event<T>>,
    max_size: usize,
    empty: Empty,
    // Set after a full window: the flush is then polled first, because a busy upstream would
    // otherwise keep it waiting for ever. In all other polls events go first, so that a flush that
    // is ready with them takes them all.
    just_full: bool,
}

impl<T, S> Unpin for CollectUntil<T, S> {}

impl<T, S> CollectUntil<T, S> {
    fn take(&mut self) -> Poll<Option<Vec<Event<T>>>> {
        Poll::Ready(Some(std::mem::take(&mut self.window)))
    }

    /// Takes an event of `flush` if one is ready. Returns whether a batch is due because of it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Some(flush)) = self.flush.poll_next_unpin(cx) else { return false };
        flush.receipt.done();
        let due = !self.window.is_empty() || self.empty == Empty::Emit;
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
                return this.take();
            }
        }
        while let Poll::Ready(next) = this.upstream.poll_next_unpin(cx) {
            match next {
                Some(event) => this.window.push(event),
                None if this.window.is_empty() => return Poll::Ready(None),
                None => return this.take(),
            }
            if this.window.len() == this.max_size {
                this.just_full = true;
                return this.take();
            }
        }
        if this.poll_flush(cx) { this.take() } else { Poll::Pending }
    }
}

/// The state machine behind [`Flow::collect_until`] for two branches of one flow: takes events and
/// flushes in the order in which they entered the branches.
struct InOrder<T, S> {
    sides: Merge<T, S>,
    // Invariant: shorter than `max_size` between polls.
    window: Vec<Event<T>>,
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
            let is_due = match ready!(this.sides.poll_next_unpin(cx)) {
                Some(Side::First(Some(event))) => {
                    this.window.push(event);
                    this.window.len() == this.max_size
                }
                Some(Side::Second(Some(flush))) => {
                    flush.receipt.done();
                    !this.window.is_empty() || this.empty == Empty::Emit
                }
                Some(Side::Second(None)) => false,
                Some(Side::First(None)) => {
                    this.ended = true;
                    if this.window.is_empty() {
                        return Poll::Ready(None);
                    }
                    true
                }
                None => return Poll::Ready(None),
            };
            if is_due {
                return Poll::Ready(Some(std::mem::take(&mut this.window)));
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

//! `timed_window`: what arrived within an interval, as a batch.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::{Batches, Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Gathers what arrives within each interval, at most `max_size` events. For a bound on the wait of each event
    /// rather than a fixed beat, see [`partition`](Flow::partition).
    ///
    /// - **Emits** at each tick of `interval` what has arrived since the last batch, and at once when there are
    ///   `max_size`. Nothing at a tick at which nothing is there. Ticks do not drift: a late one does not move the
    ///   next.
    /// - **Backpressures** when downstream does; holds at most `max_size` events. A window that falls due while
    ///   downstream is busy keeps filling from upstream, up to `max_size`, until it is taken.
    /// - **Completes** when upstream completes, after the last events.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::Flow;
    ///
    /// let two = NonZeroUsize::new(2).expect("2 is not 0");
    /// let windows = Flow::from_iter([1, 2, 3]).timed_window(Duration::from_millis(5), two).into_lists();
    /// assert_eq!(windows.collect().await?, [vec![1, 2], vec![3]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When it runs, if `interval` is zero.
    pub fn timed_window(self, interval: Duration, max_size: NonZeroUsize) -> Batches<T> {
        Batches(self.0.apply(NodeKind::Window, "timed_window", |events, _| TimedWindow {
            upstream: events.fuse(),
            period: interval,
            ticks: None,
            window: Vec::new(),
            max_size: max_size.get(),
        }))
    }
}

/// State machine behind [`Flow::timed_window`].
struct TimedWindow<T> {
    upstream: futures::stream::Fuse<BoxStream<'static, Event<T>>>,
    period: Duration,
    // Started at the first poll, for only then there is a clock for certain.
    ticks: Option<Interval>,
    // Invariant: shorter than `max_size` between polls.
    window: Vec<Event<T>>,
    max_size: usize,
}

impl<T> TimedWindow<T> {
    fn take(&mut self) -> Poll<Option<Vec<Event<T>>>> {
        Poll::Ready(Some(std::mem::take(&mut self.window)))
    }
}

impl<T> Unpin for TimedWindow<T> {}

impl<T> Stream for TimedWindow<T> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let ticks = this.ticks.get_or_insert_with(|| {
            let mut ticks = tokio::time::interval_at(Instant::now() + this.period, this.period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });

        while let Poll::Ready(next) = this.upstream.poll_next_unpin(cx) {
            match next {
                Some(event) => this.window.push(event),
                None if this.window.is_empty() => return Poll::Ready(None),
                None => return this.take(),
            }
            if this.window.len() == this.max_size {
                return this.take();
            }
        }
        loop {
            ready!(ticks.poll_tick(cx));
            if !this.window.is_empty() {
                return Poll::Ready(Some(std::mem::take(&mut this.window)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, sleep_until};

    use crate::Flow;
    use crate::testing::{block_on, size};

    const TICK: Duration = Duration::from_millis(10);

    fn timed(at: &[u64]) -> Flow<u64> {
        let start = Instant::now();
        let at = at.to_vec();
        Flow::from_stream(stream::iter(at).then(move |at| async move {
            sleep_until(start + Duration::from_millis(at)).await;
            at
        }))
    }

    /// The batches and the virtual milliseconds at which they came.
    async fn batches(flow: Flow<u64>, max_size: usize) -> Vec<(Vec<u64>, u128)> {
        let start = Instant::now();
        let windows = flow.timed_window(TICK, size(max_size)).into_lists();
        windows.map(move |list| (list, start.elapsed().as_millis())).collect().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn windows_close_on_the_beat_and_silence_makes_no_batch() {
        let seen = batches(timed(&[1, 2, 12, 45]), 10).await;
        assert_eq!(seen, [(vec![1, 2], 10), (vec![12], 20), (vec![45], 45)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_closes_early_and_leaves_the_beat_alone() {
        let seen = batches(timed(&[1, 2, 3, 14, 99]), 2).await;
        assert_eq!(seen, [(vec![1, 2], 2), (vec![3], 10), (vec![14], 20), (vec![99], 99)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_is_due_keeps_filling_while_downstream_is_busy() {
        let mut windows =
            timed(&[1, 11, 12, 13, 80]).timed_window(TICK, size(3)).into_lists().0.stream;
        assert_eq!(windows.next().await.unwrap().value, [1]);
        sleep(Duration::from_millis(35)).await;
        assert_eq!(windows.next().await.unwrap().value, [11, 12, 13]);
    }

    proptest! {
        #[test]
        fn loses_nothing_reorders_nothing_and_respects_the_size(
            gaps in prop::collection::vec(0_u64..15, 0..60), max_size in 1_usize..6,
        ) {
            let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let seen = block_on(async { batches(timed(&at), max_size).await });
            prop_assert!(seen.iter().all(|(batch, _)| (1..=max_size).contains(&batch.len())));
            for (batch, emitted) in &seen {
                for &arrived in batch {
                    prop_assert!(*emitted <= u128::from(arrived) + TICK.as_millis());
                }
            }
            prop_assert_eq!(seen.into_iter().flat_map(|(batch, _)| batch).collect::<Vec<_>>(), at);
        }
    }
}

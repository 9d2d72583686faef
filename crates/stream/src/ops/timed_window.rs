//! `timed_window`: batches of the events that arrive within an interval, all of them or one per
//! key.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::clock::{later, poll_tick};
use crate::failure::infallible;
use crate::gather::{Distinct, Gather};
use crate::{Batches, Empty, Event, Failure, Flow, Keep, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Gathers the events that arrive within each interval, at most `max_size` of them. To bound
    /// the wait of each event instead of emitting at fixed times, see
    /// [`partition`](Flow::partition).
    ///
    /// - **Emits** at each tick of `interval` the events that have arrived since the last batch,
    ///   and a batch at once when there are `max_size` events. A tick without events emits nothing;
    ///   for empty windows too, see [`timed_window_with`](Flow::timed_window_with). Ticks do not
    ///   drift: a late tick does not move the next one.
    /// - **Backpressures** when downstream does; holds at most `max_size` events. A window that
    ///   falls due while downstream is busy keeps filling from upstream, up to `max_size`, until it
    ///   is taken.
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
    /// When the flow runs, if `interval` is zero.
    pub fn timed_window(self, interval: Duration, max_size: NonZeroUsize) -> Batches<T> {
        self.timed_window_with(interval, max_size, Empty::Skip)
    }

    /// Gathers the events that arrive within each interval, as [`timed_window`](Flow::timed_window)
    /// does. `empty` decides what happens at a tick without events: with [`Empty::Emit`], the tick
    /// emits an empty window, so that intervals without events can be counted.
    ///
    /// - **Emits** at each tick of `interval` the events that have arrived since the last batch,
    ///   and a batch at once when there are `max_size` events. If there are no events, a tick emits
    ///   an empty window with [`Empty::Emit`], and nothing with [`Empty::Skip`]. An empty window
    ///   becomes `[]` with [`into_lists`](Batches::into_lists), and no event with
    ///   [`flatten`](Batches::flatten).
    /// - **Backpressures** when downstream does; holds at most `max_size` events. Ticks that pass
    ///   while downstream is busy make one window together.
    /// - **Completes** when upstream completes, after the last events; there is no empty window at
    ///   the end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Empty, Flow};
    ///
    /// let (beat, max) = (Duration::from_millis(5), NonZeroUsize::new(64).expect("64 is not 0"));
    /// let silent = Flow::from_stream(futures::stream::pending::<u8>());
    /// let counts = silent.timed_window_with(beat, max, Empty::Emit).lengths();
    /// assert_eq!(counts.slice(0, Some(3), NonZeroUsize::MIN).collect().await?, [0, 0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow runs, if `interval` is zero.
    pub fn timed_window_with(
        self,
        interval: Duration,
        max_size: NonZeroUsize,
        empty: Empty,
    ) -> Batches<T> {
        Batches(self.0.apply(NodeKind::Window, "timed_window", |events, _| {
            TimedWindow::new(events, interval, Vec::new(), max_size, empty)
        }))
    }

    /// Gathers the events that arrive within each interval as [`timed_window`](Flow::timed_window)
    /// does, but only one event for each key, and at most `max_size` of them.
    ///
    /// - **Emits** at each tick of `interval` the events that have arrived since the last batch,
    ///   and a batch at once when there are `max_size` keys.
    /// - **Backpressures** when downstream does; holds at most `max_size` events.
    /// - **Completes** when upstream completes, after the last events.
    /// - **Settles** the receipt of an event that is left out because of another event of its key
    ///   as done, not as abandoned, because it is discarded on purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, Keep};
    ///
    /// let (beat, max) = (Duration::from_secs(1), NonZeroUsize::new(64).expect("64 is not 0"));
    /// let prices = Flow::from_iter([("a", 1), ("b", 7), ("a", 2)]);
    /// let newest = prices.timed_window_unique(beat, max, |(name, _)| *name, Keep::Last).into_lists();
    /// assert_eq!(newest.collect().await?, [[("b", 7), ("a", 2)]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow runs, if `interval` is zero.
    pub fn timed_window_unique<K, F>(
        self,
        interval: Duration,
        max_size: NonZeroUsize,
        key: F,
        keep: Keep,
    ) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> K + Send + 'static,
    {
        self.try_timed_window_unique(interval, max_size, infallible(key), keep)
    }

    /// Gathers as [`timed_window_unique`](Flow::timed_window_unique) does, with a key function that
    /// can fail.
    ///
    /// - **On failure** of `key` that event's receipt fails, with this stage's name; other events
    ///   are not affected.
    ///
    /// # Panics
    ///
    /// When the flow runs, if `interval` is zero.
    pub fn try_timed_window_unique<K, F>(
        self,
        interval: Duration,
        max_size: NonZeroUsize,
        key: F,
        keep: Keep,
    ) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> Result<K, Failure> + Send + 'static,
    {
        Batches(self.0.apply(NodeKind::Window, "timed_window_unique", |events, stage| {
            let window = Distinct::new(key, keep, stage);
            TimedWindow::new(events, interval, window, max_size, Empty::Skip)
        }))
    }
}

/// The state machine behind [`Flow::timed_window`]. Each poll takes the events that are ready and
/// then looks at the tick. The window leaves when it is full, at a tick, or when upstream ends.
struct TimedWindow<T, G> {
    upstream: futures::stream::Fuse<BoxStream<'static, Event<T>>>,
    period: Duration,
    // Started at the first poll, because only then a runtime with a clock is certain to exist.
    ticks: Option<Interval>,
    // Invariant: shorter than `max_size` between polls.
    window: G,
    max_size: usize,
    empty: Empty,
}

impl<T: Send + 'static, G: Gather<T>> TimedWindow<T, G> {
    fn new(
        events: BoxStream<'static, Event<T>>,
        period: Duration,
        window: G,
        max_size: NonZeroUsize,
        empty: Empty,
    ) -> Self {
        let max_size = max_size.get();
        Self { upstream: events.fuse(), period, ticks: None, window, max_size, empty }
    }

    fn take(&mut self) -> Poll<Option<Vec<Event<T>>>> {
        Poll::Ready(Some(self.window.take()))
    }
}

impl<T, G> Unpin for TimedWindow<T, G> {}

impl<T: Send + 'static, G: Gather<T>> Stream for TimedWindow<T, G> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let ticks = this.ticks.get_or_insert_with(|| {
            let mut ticks =
                tokio::time::interval_at(later(Instant::now(), this.period), this.period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });

        // If repeated keys are left out, a busy upstream may never fill the window. At most
        // `max_size` events are taken per poll, so that the tick is polled too.
        let mut left = this.max_size;
        while left > 0
            && let Poll::Ready(next) = this.upstream.poll_next_unpin(cx)
        {
            left -= 1;
            match next {
                Some(event) => this.window.put(event),
                None if this.window.size() == 0 => return Poll::Ready(None),
                None => return this.take(),
            }
            if this.window.size() == this.max_size {
                return this.take();
            }
        }
        while poll_tick(ticks, cx).is_ready() {
            if this.window.size() > 0 || this.empty == Empty::Emit {
                return this.take();
            }
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, sleep_until};

    use crate::testing::{self, Tracked, block_on, size};
    use crate::{Empty, Flow, Keep, Outcome};

    const TICK: Duration = Duration::from_millis(10);

    fn timed(at: &[u64]) -> Flow<u64> {
        let start = Instant::now();
        let at = at.to_vec();
        Flow::from_stream(stream::iter(at).then(move |at| async move {
            sleep_until(start + Duration::from_millis(at)).await;
            at
        }))
    }

    /// Returns each batch with the time at which it came, in milliseconds on the paused clock.
    async fn batches(flow: Flow<u64>, max_size: usize) -> Vec<(Vec<u64>, u128)> {
        let start = Instant::now();
        let windows = flow.timed_window(TICK, size(max_size)).into_lists();
        windows.map(move |list| (list, start.elapsed().as_millis())).collect().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn windows_close_at_each_tick_and_a_tick_without_events_makes_no_batch() {
        let seen = batches(timed(&[1, 2, 12, 45]), 10).await;
        assert_eq!(seen, [(vec![1, 2], 10), (vec![12], 20), (vec![45], 45)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_closes_early_and_does_not_move_the_ticks() {
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

    #[tokio::test(start_paused = true)]
    async fn with_empty_emit_each_tick_without_events_makes_an_empty_window() {
        let start = Instant::now();
        let (flow, outcomes) = Tracked::stream(testing::timed(vec![1, 2, 3, 12, 45]));
        let windows = flow.timed_window_with(TICK, size(2), Empty::Emit);
        let windows = windows.into_lists().map(move |list| (list, start.elapsed().as_millis()));
        let expected = [
            (vec![1, 2], 2),
            (vec![3], 10),
            (vec![12], 20),
            (vec![], 30),
            (vec![], 40),
            (vec![45], 45),
        ];
        assert_eq!(windows.collect().await.unwrap(), expected);
        assert_eq!(outcomes.codes(), ["done"; 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_window_flattens_to_nothing() {
        let windows = || timed(&[35, 36]).timed_window_with(TICK, size(9), Empty::Emit);
        let (values, lengths) =
            tokio::join!(windows().flatten().collect(), windows().lengths().collect());
        assert_eq!(values.unwrap(), [35, 36]);
        assert_eq!(lengths.unwrap(), [0, 0, 0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn missed_ticks_make_one_empty_window_and_do_not_move_later_ticks() {
        let start = Instant::now();
        let windows = timed(&[99]).timed_window_with(TICK, size(9), Empty::Emit).into_lists();
        let mut windows = windows.0.stream;
        let mut at = Vec::new();
        for pause in [35, 0, 0] {
            assert!(windows.next().await.unwrap().value.is_empty());
            at.push(start.elapsed().as_millis());
            sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(at, [10, 45, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_interval_does_not_panic() {
        for empty in [Empty::Skip, Empty::Emit] {
            let windows = timed(&[1, 2]).timed_window_with(Duration::MAX, size(9), empty);
            assert_eq!(windows.into_lists().collect().await.unwrap(), [[1, 2]]);
        }
    }

    #[tokio::test]
    async fn windows_close_at_each_tick_although_repeats_come_without_a_pause() {
        let repeats = Flow::from_iter((0..300_000).map(|number| number % 2));
        let beat = Duration::from_millis(1);
        let windows = repeats.timed_window_unique(beat, size(3), |number| *number, Keep::Last);
        assert!(windows.into_lists().collect().await.unwrap().len() > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn each_window_has_its_own_keys() {
        for (keep, expected) in [
            (Keep::First, [(vec![1, 2], 10), (vec![13], 20), (vec![35], 35)]),
            (Keep::Last, [(vec![2, 5], 10), (vec![17], 20), (vec![35], 35)]),
        ] {
            let start = Instant::now();
            let windows = timed(&[1, 2, 5, 13, 17, 35]);
            let windows = windows.timed_window_unique(TICK, size(10), |at| at % 2, keep);
            let windows = windows.into_lists().map(move |list| (list, start.elapsed().as_millis()));
            assert_eq!(windows.collect().await.unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn without_ticks_batches_agree_with_partition_unique_and_superseded_events_are_done(
            keys in prop::collection::vec(0_u8..6, 0..60), n in 1_usize..5, last: bool,
        ) {
            let keep = if last { Keep::Last } else { Keep::First };
            let flow = Flow::from_iter(keys.clone()).partition_unique(size(n), |key| *key, keep);
            let expected = block_on(flow.into_lists().collect()).unwrap();
            let (flow, outcomes) = Tracked::flow(keys.clone());
            let flow = flow.timed_window_unique(TICK, size(n), |key| *key, keep).into_lists();
            prop_assert_eq!(block_on(flow.collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; keys.len()]);
        }

        #[test]
        fn windows_lose_nothing_reorder_nothing_and_respect_the_size(
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

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
use crate::dispatches::{Dispatches, Reason};
use crate::failure::infallible;
use crate::gather::{Distinct, Gather};
use crate::stage::Stage;
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
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
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
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Empty, Flow, at_most};
    ///
    /// let (beat, max) = (Duration::from_millis(5), at_most(64));
    /// let silent = Flow::from_stream(futures::stream::pending::<u8>());
    /// let counts = silent.timed_window_with(beat, max, Empty::Emit).lengths();
    /// assert_eq!(counts.slice(0, Some(3), at_most(1)).collect().await?, [0, 0, 0]);
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
        Batches(self.0.apply(NodeKind::Window, "timed_window", |events, stage| {
            TimedWindow::new(events, interval, Vec::new(), max_size, empty, &stage)
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
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, Keep, at_most};
    ///
    /// let (beat, max) = (Duration::from_secs(1), at_most(64));
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
            let window = Distinct::new(key, keep, stage.clone());
            TimedWindow::new(events, interval, window, max_size, Empty::Skip, &stage)
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
    dispatches: Dispatches,
}

impl<T: Send + 'static, G: Gather<T>> TimedWindow<T, G> {
    fn new(
        events: BoxStream<'static, Event<T>>,
        period: Duration,
        window: G,
        max_size: NonZeroUsize,
        empty: Empty,
        stage: &Stage,
    ) -> Self {
        let dispatches = Dispatches::new(stage, &[Reason::Size, Reason::Interval, Reason::Drain]);
        let max_size = max_size.get();
        Self { upstream: events.fuse(), period, ticks: None, window, max_size, empty, dispatches }
    }

    fn take(&mut self, reason: Reason) -> Poll<Option<Vec<Event<T>>>> {
        let window = self.window.take();
        self.dispatches.count(reason, window.len());
        Poll::Ready(Some(window))
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
                Some(event) => {
                    this.dispatches.came();
                    this.window.put(event);
                }
                None if this.window.size() == 0 => return Poll::Ready(None),
                None => return this.take(Reason::Drain),
            }
            if this.window.size() == this.max_size {
                return this.take(Reason::Size);
            }
        }
        while poll_tick(ticks, cx).is_ready() {
            if this.window.size() > 0 || this.empty == Empty::Emit {
                return this.take(Reason::Interval);
            }
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;

//! `interval`: a periodic timer as a source.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::IntervalStream;

use crate::Flow;

impl Flow<u64> {
    /// Creates a flow of ticks: 0 at once, then the next number after each `period`. To gather
    /// events at an interval, see [`timed_window`](Flow::timed_window).
    ///
    /// - **Emits** the next number at each tick. Ticks do not drift: a late tick does not move the
    ///   next one.
    /// - **Backpressures** when downstream does. If several ticks pass while downstream is busy,
    ///   the first of them is emitted as soon as downstream asks, and the others are skipped. The
    ///   numbers count the ticks that are emitted, without gaps.
    /// - **Completes** never; [`slice`](Flow::slice) ends it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::Flow;
    ///
    /// let ticks = Flow::interval(Duration::from_millis(5)).slice(0, Some(3), NonZeroUsize::MIN);
    /// assert_eq!(ticks.collect().await?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow runs, if `period` is zero.
    pub fn interval(period: Duration) -> Self {
        // Started at the first poll, because only then a runtime with a clock is certain to exist.
        let ticks = stream::once(async move { IntervalStream::new(start(period)) }).flatten();
        Self::values("interval", stream::iter(0..).zip(ticks).map(|(number, _)| number))
    }
}

fn start(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now(), period);
    // With tokio's default, a consumer that was slow for an hour would get that hour's ticks in one
    // burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::StreamExt as _;
    use tokio::time::{Instant, sleep, timeout};

    use crate::Flow;
    use crate::testing::size;

    const PERIOD: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn the_first_tick_comes_at_once_and_later_ticks_do_not_drift() {
        let start = Instant::now();
        let slow = move |number| async move {
            let at = start.elapsed().as_millis();
            sleep(Duration::from_millis(7)).await;
            Ok((number, at))
        };
        let ticks = Flow::interval(PERIOD).slice(0, Some(4), size(1)).map_async(slow, size(1));
        assert_eq!(ticks.collect().await.unwrap(), [(0, 0), (1, 10), (2, 20), (3, 30)]);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_that_pass_while_downstream_is_busy_are_skipped_and_do_not_move_later_ones() {
        let start = Instant::now();
        let mut ticks = Flow::interval(PERIOD).0.stream;
        let mut seen = Vec::new();
        for pause in [0, 35, 0, 0] {
            let number = ticks.next().await.unwrap().value;
            seen.push((number, start.elapsed().as_millis()));
            sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(seen, [(0, 0), (1, 10), (2, 45), (3, 50)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_period_does_not_panic() {
        let mut ticks = Flow::interval(Duration::MAX).0.stream;
        assert_eq!(ticks.next().await.unwrap().value, 0);
        assert!(timeout(Duration::from_secs(1), ticks.next()).await.is_err());
    }
}

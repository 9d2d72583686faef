//! `rate_limit`: limits the number of events per time.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::stream::StreamExt as _;
use tokio::time::{Instant, sleep_until};

use crate::clock::later;
use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets one event pass for each `interval`, or up to `burst` at once after a pause: a token
    /// bucket. For 200 events a second, `interval` is `Duration::from_secs(1) / 200`; a `burst` of
    /// 1 only spaces events out.
    ///
    /// - **Emits** each event as soon as there is a token for it, unchanged and in order.
    /// - **Backpressures** when downstream does, and while an event waits for its token; holds at
    ///   most that one.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::{Duration, Instant};
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let start = Instant::now();
    /// let two = at_most(2);
    /// let flow = Flow::from_iter(0..4).rate_limit(Duration::from_millis(10), two);
    /// assert_eq!(flow.collect().await?, [0, 1, 2, 3]);
    /// assert!(start.elapsed() >= Duration::from_millis(20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn rate_limit(self, interval: Duration, burst: NonZeroUsize) -> Self {
        let ahead = u32::try_from(burst.get() - 1).unwrap_or(u32::MAX);
        let mut bucket = Bucket { interval, slack: interval.saturating_mul(ahead), refilled: None };
        Self(self.0.holding().apply(NodeKind::Element, "rate_limit", |events, _| {
            events.then(move |event| {
                let now = Instant::now();
                let at = bucket.reserve(now);
                async move {
                    if at > now {
                        sleep_until(at).await;
                    }
                    event
                }
            })
        }))
    }
}

/// A token bucket whose whole state is one point in time (the generic cell rate algorithm of ATM
/// networks).
struct Bucket {
    interval: Duration,
    // The time in which all tokens of the bucket but one are refilled: `burst - 1` intervals.
    slack: Duration,
    // The time at which all tokens taken so far will be refilled.
    refilled: Option<Instant>,
}

impl Bucket {
    /// Takes a token; returns the time from which the token may be used.
    fn reserve(&mut self, now: Instant) -> Instant {
        let refilled = self.refilled.map_or(now, |refilled| refilled.max(now));
        self.refilled = Some(later(refilled, self.interval));
        refilled.checked_sub(self.slack).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep_until, timeout};

    use crate::testing::{Tracked, block_on, size};
    use crate::{Flow, Outcome};

    const INTERVAL: Duration = Duration::from_millis(50);

    /// Sends one event at each of the milliseconds in `at`. Returns the milliseconds at which the
    /// events passed the limit, and their outcomes.
    async fn passed(at: Vec<u64>, burst: usize) -> (Vec<u64>, Vec<Outcome>) {
        let start = Instant::now();
        let (flow, outcomes) = Tracked::stream(stream::iter(at).then(move |at| async move {
            sleep_until(start + Duration::from_millis(at)).await;
        }));
        let flow = flow.rate_limit(INTERVAL, size(burst));
        let flow = flow.map(move |()| u64::try_from(start.elapsed().as_millis()).unwrap());
        (flow.collect().await.unwrap(), outcomes.all())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_1_spaces_events_out_and_a_burst_of_2_lets_two_pass_after_a_pause() {
        assert_eq!(passed(vec![0; 4], 1).await.0, [0, 50, 100, 150]);
        assert_eq!(passed(vec![0, 0, 0, 500, 500, 500], 2).await.0, [0, 0, 50, 500, 500, 550]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_interval_does_not_panic() {
        let run = Flow::from_iter([1, 2]).rate_limit(Duration::MAX, size(1)).collect();
        assert!(timeout(Duration::from_secs(1), run).await.is_err());
        let all = Flow::from_iter([1, 2]).rate_limit(Duration::MAX, size(usize::MAX)).collect();
        assert_eq!(all.await.unwrap(), [1, 2]);
    }

    proptest! {
        #[test]
        fn times_agree_with_counting_tokens(gaps in prop::collection::vec(0_u64..120, 0..40), burst in 1_u64..5) {
            let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            // Tokens are counted in fiftieths, so that one fiftieth is refilled per millisecond.
            let mut tokens = burst * 50;
            let mut now = 0;
            let expected = at.iter().map(|&at| {
                let wait = at.max(now) - now;
                tokens = (tokens + wait).min(burst * 50);
                now += wait;
                let missing = 50_u64.saturating_sub(tokens);
                tokens = tokens + missing - 50;
                now += missing;
                now
            });
            let expected: Vec<_> = expected.collect();
            let (seen, outcomes) = block_on(passed(at.clone(), usize::try_from(burst).unwrap()));
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(outcomes, vec![Outcome::Done; at.len()]);
        }
    }
}

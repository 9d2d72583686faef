//! `delay`: emits every event a fixed time later.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

use crate::clock::{later, poll_until};
use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets every event pass after a delay of `wait`, also the first one. To space events out
    /// instead, see [`rate_limit`](Flow::rate_limit).
    ///
    /// - **Emits** each event `wait` after it was taken from upstream, unchanged and in order.
    /// - **Backpressures** when downstream does, and while `capacity` events wait; holds at most
    ///   that many.
    /// - **Completes** when upstream completes, after the last event's wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::{Duration, Instant};
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let start = Instant::now();
    /// let capacity = at_most(100);
    /// let flow = Flow::from_iter([1, 2]).delay(Duration::from_millis(20), capacity);
    /// assert_eq!(flow.collect().await?, [1, 2]);
    /// assert!(start.elapsed() >= Duration::from_millis(20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn delay(self, wait: Duration, capacity: NonZeroUsize) -> Self {
        Self(self.0.holding().apply(NodeKind::Element, "delay", |events, _| Delay {
            upstream: events.fuse(),
            wait,
            capacity: capacity.get(),
            waiting: VecDeque::new(),
            timer: None,
        }))
    }
}

/// The state machine behind [`Flow::delay`].
struct Delay<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    wait: Duration,
    capacity: usize,
    // Sorted by the time at which they leave. Invariant: never longer than `capacity`.
    waiting: VecDeque<(Instant, Event<T>)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Unpin for Delay<T> {}

impl<T> Stream for Delay<T> {
    type Item = Event<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut ended = false;
        while this.waiting.len() < this.capacity
            && !ended
            && let Poll::Ready(next) = this.upstream.poll_next_unpin(cx)
        {
            match next {
                Some(event) => this.waiting.push_back((later(Instant::now(), this.wait), event)),
                None => ended = true,
            }
        }
        let Some(&(due, _)) = this.waiting.front() else {
            return if ended { Poll::Ready(None) } else { Poll::Pending };
        };
        ready!(poll_until(&mut this.timer, due, cx));
        Poll::Ready(this.waiting.pop_front().map(|(_, event)| event))
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

    const WAIT: Duration = Duration::from_millis(50);

    /// Sends an event at each of the milliseconds in `at`. Returns the milliseconds at which each
    /// event came and left, and the outcomes.
    async fn delayed(at: Vec<u64>, capacity: usize) -> (Vec<(u64, u64)>, Vec<Outcome>) {
        let start = Instant::now();
        let (flow, outcomes) = Tracked::stream(stream::iter(at).then(move |at| async move {
            sleep_until(start + Duration::from_millis(at)).await;
            at
        }));
        let left = move |at| (at, u64::try_from(start.elapsed().as_millis()).unwrap());
        (flow.delay(WAIT, size(capacity)).map(left).collect().await.unwrap(), outcomes.all())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_waits_too_and_a_full_delay_stops_upstream() {
        assert_eq!(delayed(vec![0, 10, 70], 9).await.0, [(0, 50), (10, 60), (70, 120)]);
        assert_eq!(delayed(vec![0, 10, 70], 1).await.0, [(0, 50), (10, 100), (70, 150)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_range_of_the_clock_does_not_panic() {
        let run = Flow::from_iter([1]).delay(Duration::MAX, size(1)).collect();
        assert!(timeout(Duration::from_secs(1), run).await.is_err());
    }

    proptest! {
        #[test]
        fn every_event_leaves_exactly_the_wait_after_it_came(gaps in prop::collection::vec(0_u64..80, 0..40)) {
            let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let expected: Vec<_> = at.iter().map(|&at| (at, at + 50)).collect();
            let (seen, outcomes) = block_on(delayed(at.clone(), 64));
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(outcomes, vec![Outcome::Done; at.len()]);
        }
    }
}

//! `DeviceSchedule`: what a model has in hand, and until when it is expected to be busy.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What a model has in hand, for those who choose what it is given next.
#[derive(Debug)]
pub(crate) struct DeviceSchedule(watch::Sender<InHand>);

#[derive(Clone, Copy, Debug)]
struct InHand {
    /// Batches given and not yet answered.
    batches: usize,
    /// Those of them that the device does not have yet, or of which nobody can say how long they take.
    unknown: usize,
    /// When the device is done with all that it has.
    ends: Instant,
    /// How long it took to give it the last one.
    launch: Duration,
}

/// One batch in hand, until it is dropped.
pub(crate) struct BatchInHand {
    schedule: Arc<DeviceSchedule>,
    is_unknown: bool,
}

impl DeviceSchedule {
    pub(crate) fn new() -> Self {
        let ends = Instant::now();
        Self(watch::Sender::new(InHand { batches: 0, unknown: 0, ends, launch: Duration::ZERO }))
    }

    /// Counts a batch in.
    pub(crate) fn begin(self: &Arc<Self>) -> BatchInHand {
        self.0.send_modify(|in_hand| {
            in_hand.batches += 1;
            in_hand.unknown += 1;
        });
        BatchInHand { schedule: Arc::clone(self), is_unknown: true }
    }

    /// Less for the model that will be free sooner.
    pub(crate) fn load(&self) -> (usize, Instant) {
        let in_hand = *self.0.borrow();
        (in_hand.batches, in_hand.ends)
    }

    /// Waits until the model has nothing in hand, or is so near its end that the next batch has to be prepared now.
    pub(crate) async fn ready(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let in_hand = *changes.borrow_and_update();
            if in_hand.batches == 0 {
                return;
            }
            let near_end = async {
                match in_hand.unknown {
                    0 => sleep_until(in_hand.near_end()).await,
                    _ => pending().await,
                }
            };
            tokio::select! {
                // Nobody drops the sender meanwhile: it is borrowed here.
                _ = changes.changed() => {}
                () = near_end => return,
            }
        }
    }
}

impl InHand {
    fn near_end(self) -> Instant {
        // Timers are late by up to a millisecond.
        let lead = self.launch.saturating_add(Duration::from_millis(1));
        self.ends.checked_sub(lead).unwrap_or(self.ends)
    }
}

impl BatchInHand {
    /// The device has the batch, which took so long, and is expected to take so long for it.
    pub(crate) fn launched(&mut self, launch: Duration, takes: Duration) {
        // An expectation beyond this is a mistake, and instants end somewhere.
        const LONGEST: Duration = Duration::from_hours(1);
        let was_unknown = std::mem::take(&mut self.is_unknown);
        self.schedule.0.send_modify(|in_hand| {
            in_hand.unknown -= usize::from(was_unknown);
            in_hand.ends = in_hand.ends.max(Instant::now()) + takes.min(LONGEST);
            in_hand.launch = launch;
        });
    }
}

impl Drop for BatchInHand {
    fn drop(&mut self) {
        self.schedule.0.send_modify(|in_hand| {
            in_hand.batches -= 1;
            in_hand.unknown -= usize::from(self.is_unknown);
            if in_hand.batches == 0 {
                in_hand.ends = Instant::now();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::{Instant, advance};

    use super::DeviceSchedule;

    const MS: Duration = Duration::from_millis(1);

    async fn waits(schedule: &DeviceSchedule) -> Duration {
        let started = Instant::now();
        schedule.ready().await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_batch_is_prepared_just_before_the_last_one_ends() {
        let schedule = Arc::new(DeviceSchedule::new());
        assert_eq!(waits(&schedule).await, Duration::ZERO, "nothing is in hand");
        let mut busy = schedule.begin();
        assert!(schedule.ready().now_or_never().is_none(), "it is still being prepared");
        busy.launched(4 * MS, 30 * MS);
        assert_eq!(waits(&schedule).await, 25 * MS);
        let mut next = schedule.begin();
        next.launched(4 * MS, 20 * MS);
        // Five of the first are left, and the next one comes after it.
        assert_eq!(waits(&schedule).await, 20 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_was_expected_what_is_done_is_done() {
        let schedule = Arc::new(DeviceSchedule::new());
        let mut busy = schedule.begin();
        busy.launched(MS, 1000 * MS);
        let (waited, ()) = tokio::join!(waits(&schedule), async {
            advance(3 * MS).await;
            drop(busy);
        });
        assert_eq!(waited, 3 * MS);
        // And the time that was not taken is forgotten.
        schedule.begin().launched(MS, 10 * MS);
        let mut busy = schedule.begin();
        busy.launched(MS, 10 * MS);
        assert_eq!(waits(&schedule).await, 8 * MS);
        busy.launched(MS, Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_of_which_nothing_is_known_is_waited_for() {
        let schedule = Arc::new(DeviceSchedule::new());
        let busy = schedule.begin();
        let (waited, ()) = tokio::join!(waits(&schedule), async {
            advance(7 * MS).await;
            drop(busy);
        });
        assert_eq!(waited, 7 * MS);
    }
}

//! `DeviceSchedule`: the batches that a model has in hand, and the time at which it is expected to
//! finish them. A batch is in hand from the call of the model's handle until its results are there.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The batches that a model has in hand. Callers watch it to choose the model's next batch as late
/// as possible.
#[derive(Debug)]
pub(crate) struct DeviceSchedule(watch::Sender<InHand>);

#[derive(Clone, Copy, Debug)]
struct InHand {
    /// Number of batches in hand.
    batches: usize,
    /// Number of those batches whose end cannot be predicted: the batch is not launched yet, or the
    /// model computes it without an estimate.
    unknown: usize,
    /// When the device is expected to finish all launched batches.
    ends: Instant,
    /// The time that the model took to launch its last batch.
    launch: Duration,
}

/// One batch in hand. It is counted until this value is dropped.
pub(crate) struct BatchInHand {
    schedule: Arc<DeviceSchedule>,
    is_unknown: bool,
}

impl DeviceSchedule {
    pub(crate) fn new() -> Self {
        let ends = Instant::now();
        Self(watch::Sender::new(InHand { batches: 0, unknown: 0, ends, launch: Duration::ZERO }))
    }

    /// Counts a batch as in hand, until the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> BatchInHand {
        self.0.send_modify(|in_hand| {
            in_hand.batches += 1;
            in_hand.unknown += 1;
        });
        BatchInHand { schedule: Arc::clone(self), is_unknown: true }
    }

    /// Returns a key that orders models by when they are expected to be free: the model with the
    /// smaller key is free sooner.
    pub(crate) fn load(&self) -> (usize, Instant) {
        let in_hand = *self.0.borrow();
        (in_hand.batches, in_hand.ends)
    }

    /// Waits until it is time to give the model its next batch: when nothing is in hand, or when
    /// the device will finish all batches in just the time that it takes to launch another one.
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
                // `changed` fails only if the sender is dropped, and `self` owns the sender.
                _ = changes.changed() => {}
                () = near_end => return,
            }
        }
    }
}

impl InHand {
    /// Returns when to launch the next batch, so that it is ready when the device is free.
    fn near_end(self) -> Instant {
        // One millisecond more, because timers fire up to a millisecond late.
        let lead = self.launch.saturating_add(Duration::from_millis(1));
        self.ends.checked_sub(lead).unwrap_or(self.ends)
    }
}

impl BatchInHand {
    /// Records that the batch was given to the device. `launch` is the time that this took, and
    /// `takes` the time for which the device is expected to compute the batch.
    pub(crate) fn launched(&mut self, launch: Duration, takes: Duration) {
        // `takes` is limited because adding a very long time to an `Instant` panics, and an
        // estimate may be wrong.
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
    async fn ready_returns_just_before_the_last_batch_ends() {
        let schedule = Arc::new(DeviceSchedule::new());
        assert_eq!(waits(&schedule).await, Duration::ZERO, "nothing is in hand");
        let mut in_hand = schedule.begin();
        assert!(schedule.ready().now_or_never().is_none(), "the batch is still being prepared");
        in_hand.launched(4 * MS, 30 * MS);
        assert_eq!(waits(&schedule).await, 25 * MS);
        let mut next = schedule.begin();
        next.launched(4 * MS, 20 * MS);
        // The first batch takes 5 ms more, and the second one 20 ms. `ready` returns 5 ms before
        // both are finished.
        assert_eq!(waits(&schedule).await, 20 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn ready_returns_when_a_batch_ends_earlier_than_expected() {
        let schedule = Arc::new(DeviceSchedule::new());
        let mut in_hand = schedule.begin();
        in_hand.launched(MS, 1000 * MS);
        let (waited, ()) = tokio::join!(waits(&schedule), async {
            advance(3 * MS).await;
            drop(in_hand);
        });
        assert_eq!(waited, 3 * MS);
        // The first batch ended long before its expected time, and the second one ends at once.
        // Only the third one's expected time counts.
        schedule.begin().launched(MS, 10 * MS);
        let mut in_hand = schedule.begin();
        in_hand.launched(MS, 10 * MS);
        assert_eq!(waits(&schedule).await, 8 * MS);
        in_hand.launched(MS, Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn ready_waits_until_a_batch_without_an_estimate_ends() {
        let schedule = Arc::new(DeviceSchedule::new());
        let in_hand = schedule.begin();
        let (waited, ()) = tokio::join!(waits(&schedule), async {
            advance(7 * MS).await;
            drop(in_hand);
        });
        assert_eq!(waited, 7 * MS);
    }
}

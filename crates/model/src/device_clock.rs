//! `DeviceClock`: measures how long a device takes for each batch, even if batches overlap.

use parking_lot::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Measures the time that a device takes for each batch, without counting any moment twice. If a
/// batch is launched while the device still computes another one, its time begins when the other
/// one is done.
#[derive(Debug, Default)]
pub(crate) struct DeviceClock {
    last_end: Mutex<Option<Instant>>,
}

impl DeviceClock {
    /// Returns how long the device took for a batch that was launched at `started` and is done now.
    pub(crate) fn done(&self, started: Instant) -> Duration {
        let now = Instant::now();
        let last = self.last_end.lock().replace(now);
        now.saturating_duration_since(last.map_or(started, |last| last.max(started)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::DeviceClock;

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_batches_overlap_is_counted_once() {
        const MS: Duration = Duration::from_millis(1);
        let clock = DeviceClock::default();
        let first = Instant::now();
        advance(4 * MS).await;
        let second = Instant::now();
        advance(6 * MS).await;
        assert_eq!(clock.done(first), 10 * MS);
        advance(5 * MS).await;
        assert_eq!(clock.done(second), 5 * MS);
        advance(20 * MS).await;
        let third = Instant::now();
        advance(3 * MS).await;
        assert_eq!(clock.done(third), 3 * MS, "the 20 ms of idle time do not count");
    }
}

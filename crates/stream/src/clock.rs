//! Points in time, however far off.

use std::time::Duration;

use tokio::time::Instant;

/// `wait` after `at`, or 30 years after it where the clock does not reach that far.
pub(crate) fn later(at: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(30 * 365 * 24);
    at.checked_add(wait).unwrap_or_else(|| at + FAR)
}

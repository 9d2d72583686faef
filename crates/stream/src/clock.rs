//! Points in time, however far off.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// `wait` after `at`, or 30 years after it where the clock does not reach that far.
pub(crate) fn later(at: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(30 * 365 * 24);
    at.checked_add(wait).unwrap_or_else(|| at + FAR)
}

/// Ready once it is `due`; `timer` is made when it is first needed, for only then there is a runtime for certain.
pub(crate) fn poll_until(
    timer: &mut Option<Pin<Box<Sleep>>>,
    due: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if due <= Instant::now() {
        return Poll::Ready(());
    }
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    timer.as_mut().poll(cx)
}

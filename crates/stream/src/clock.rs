//! Helpers for timers. They accept durations of any length.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Instant, Interval, Sleep};

/// Returns the time `wait` after `at`, or 30 years after it if the clock does not reach that far.
pub(crate) fn later(at: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(30 * 365 * 24);
    at.checked_add(wait).unwrap_or_else(|| at + FAR)
}

/// Ready at `due`. `timer` is created when it is first needed, because only then a runtime is
/// certain to exist.
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

/// Reports, once, that an operator has made no progress for 10 s.
#[derive(Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    noticed: bool,
}

impl Stall {
    /// Records whether the operator stands `still` at this moment. Ready, once, when every call of
    /// the last 10 s said that it does.
    pub(crate) fn poll(&mut self, still: bool, cx: &mut Context<'_>) -> Poll<()> {
        const LONG: Duration = Duration::from_secs(10);
        if !still || self.noticed {
            self.since = None;
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let long = poll_until(&mut self.timer, since + LONG, cx);
        self.noticed = long.is_ready();
        long
    }
}

/// Polls for the next tick, also if a busy upstream has used up the task's budget.
pub(crate) fn poll_tick(ticks: &mut Interval, cx: &mut Context<'_>) -> Poll<Instant> {
    pin!(coop::unconstrained(poll_fn(|cx| ticks.poll_tick(cx)))).poll(cx)
}

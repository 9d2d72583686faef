//! Tells systemd what the process is doing, if systemd has started it (`Type=notify`).

use std::future::pending;

use sd_notify::NotifyState;

/// Sends a change of state.
pub(crate) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify the supervisor");
    }
}

/// Tells systemd again and again that the process is alive, if the unit has `WatchdogSec`. Stops
/// when the runtime does.
pub(crate) async fn keep_alive<T>() -> T {
    if let Some(limit) = sd_notify::watchdog_enabled() {
        // Half of the time that systemd allows, as its manual advises.
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            notify(NotifyState::Watchdog);
        }
    }
    pending().await
}

//! SIGINT and SIGTERM: the first signal lets the pipeline drain, the second ends the process at
//! once.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit;

/// Returns a token that the first signal cancels.
///
/// # Panics
///
/// If called outside of a tokio runtime.
pub(crate) fn stop_token() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for signals in 0_u8.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if signals > 0 {
                // The offsets of requests in flight are not committed, so exiting now loses no
                // request.
                std::process::exit(exit::INTERRUPTED.into());
            }
            token.cancel();
        }
    });
    Ok(stop)
}

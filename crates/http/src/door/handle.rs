//! `Handle`: closes a door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::entrance::Entrance;
use crate::Error;

/// Controls a door that was started. Dropping it closes the door without waiting for anything: connections are cut.
#[must_use = "dropping the handle closes the door"]
pub struct Handle {
    address: SocketAddr,
    entrance: Arc<Entrance>,
    cut: CancellationToken,
    server: JoinHandle<()>,
}

/// How a door was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Requests that came to no outcome before the deadline. Their clients were told to send them again.
    pub unresolved: usize,
}

impl Handle {
    pub(super) fn new(
        address: SocketAddr,
        entrance: Arc<Entrance>,
        cut: CancellationToken,
        server: JoinHandle<()>,
    ) -> Self {
        Self { address, entrance, cut, server }
    }

    /// Takes no more requests, waits up to `patience` for the outcome of those that were taken, and shuts the server
    /// down.
    ///
    /// Responses then have five seconds to be written; connections that are still busy after that are cut.
    ///
    /// # Errors
    ///
    /// When the server had ended before.
    pub async fn close(mut self, patience: Duration) -> Result<CloseReport, Error> {
        const WRITING: Duration = Duration::from_secs(5);
        self.entrance.stop.cancel();
        let unresolved = match timeout(patience, self.entrance.all_resolved()).await {
            Ok(()) => 0,
            Err(_) => self.entrance.unresolved(),
        };
        self.entrance.closing.cancel();
        match timeout(WRITING, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::ServerEnded { address: self.address }),
            Err(_) => tracing::warn!(address = %self.address, "cutting connections that are busy"),
        }
        Ok(CloseReport { unresolved })
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.entrance.stop.cancel();
        self.entrance.closing.cancel();
        self.cut.cancel();
        self.server.abort();
    }
}

#[cfg(test)]
impl Handle {
    /// Ends the server as a panic would.
    pub(super) fn abort_server(&self) {
        self.server.abort();
    }
}

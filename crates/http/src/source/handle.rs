//! `Handle`: closes a source.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ingress::Ingress;
use crate::Error;

/// Controls a source that was started. Dropping it closes the source without waiting for anything: connections are cut.
#[must_use = "dropping the handle closes the source"]
pub struct Handle {
    address: SocketAddr,
    ingress: Arc<Ingress>,
    cut: CancellationToken,
    server: JoinHandle<()>,
}

/// How a source was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Requests that came to no outcome before the deadline. Their clients were told to send them again.
    pub unresolved: usize,
}

impl Handle {
    pub(super) fn new(
        address: SocketAddr,
        ingress: Arc<Ingress>,
        cut: CancellationToken,
        server: JoinHandle<()>,
    ) -> Self {
        Self { address, ingress, cut, server }
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
        self.ingress.stop.cancel();
        let unresolved = match timeout(patience, self.ingress.all_resolved()).await {
            Ok(()) => 0,
            Err(_) => self.ingress.unresolved(),
        };
        self.ingress.closing.cancel();
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
        self.ingress.stop.cancel();
        self.ingress.closing.cancel();
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

//! `Handle`: closes an HTTP source.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ingress::Ingress;
use crate::Error;

/// The handle of a running source. Dropping it closes the source at once and cuts its connections.
#[must_use = "dropping the handle closes the source"]
pub struct Handle {
    address: SocketAddr,
    ingress: Arc<Ingress>,
    server: JoinHandle<()>,
}

/// The result of closing a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// The number of requests that were not settled before the deadline. Their clients got a 503
    /// with `Retry-After`.
    pub unresolved: usize,
}

impl Handle {
    pub(super) fn new(address: SocketAddr, ingress: Arc<Ingress>, server: JoinHandle<()>) -> Self {
        Self { address, ingress, server }
    }

    /// Stops taking requests, waits up to `patience` for those in flight, and shuts the server
    /// down.
    ///
    /// Responses then have five seconds to be written; connections that are still busy after that
    /// are cut.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ServerEnded`] if the server's task has panicked.
    pub async fn close(mut self, patience: Duration) -> Result<CloseReport, Error> {
        const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
        self.ingress.stop.cancel();
        let unresolved = match timeout(patience, self.ingress.all_settled()).await {
            Ok(()) => 0,
            Err(_) => self.ingress.in_flight(),
        };
        self.ingress.closing.cancel();
        match timeout(WRITE_TIMEOUT, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::ServerEnded { address: self.address }),
            Err(_) => {
                tracing::warn!(address = %self.address, "closing: cutting connections that are still busy");
            }
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
        // The server's task owns the connections, so they are cut with it.
        self.server.abort();
    }
}

#[cfg(test)]
impl Handle {
    /// Aborts the server's task. To the source this looks like a panic of the task.
    pub(super) fn abort_server(&self) {
        self.server.abort();
    }
}

//! `SourceHandle`: observes and closes a running source.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::core::{Core, after};
use super::stats::{CloseReport, Stats};
use crate::{Error, Stuck};

/// A handle to a running source. Dropping it closes the source without waiting.
#[must_use = "dropping the handle closes the source"]
pub struct SourceHandle {
    core: Arc<Core>,
    stop: CancellationToken,
    ready: watch::Receiver<bool>,
    // Received when the poll thread has made its last commit; an error if that thread panicked.
    report: oneshot::Receiver<Result<CloseReport, Error>>,
    // Received when the poll thread has left the group.
    left: oneshot::Receiver<()>,
}

impl SourceHandle {
    pub(super) fn new(
        core: Arc<Core>,
        stop: CancellationToken,
        ready: watch::Receiver<bool>,
        report: oneshot::Receiver<Result<CloseReport, Error>>,
        left: oneshot::Receiver<()>,
    ) -> Self {
        Self { core, stop, ready, report, left }
    }

    /// Returns the current load of the source. Cheap enough to be called every second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Returns a future that completes when the source is ready: its group has assigned partitions
    /// to it (none, if the group has more members than the topic has partitions), or has accepted
    /// it and waits for other members. It never completes if the group refuses the source, if its
    /// coordinator cannot be reached, or if the source ends before.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ready = self.ready.clone();
        async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns a future that completes when the source ends because a record is stuck (see
    /// [`SourceConfig::stuck_timeout`](crate::SourceConfig::stuck_timeout)). The stream yields this
    /// as its error too, but a pipeline that is stuck as a whole does not poll the stream.
    pub fn stuck(&self) -> impl Future<Output = Stuck> + Send + 'static {
        let mut stuck = self.core.end.stuck();
        async move {
            match stuck.wait_for(Option::is_some).await.map(|stuck| stuck.clone()) {
                Ok(Some(stuck)) => stuck,
                _ => std::future::pending().await,
            }
        }
    }

    /// Stops the stream, waits up to `patience` for the outcomes of the records that were handed
    /// out, commits, and leaves the group.
    ///
    /// If leaving the group takes longer than five seconds, because the group is rebalancing or its
    /// brokers do not answer, it goes on in the background.
    ///
    /// # Errors
    ///
    /// Returns the error that ended the source, if the stream did not yield it; otherwise the
    /// reason why the last commit failed.
    pub async fn close(mut self, patience: Duration) -> Result<CloseReport, Error> {
        // Longer than the poll thread's limit for its last commit.
        const COMMITTING: Duration = Duration::from_secs(15);
        const LEAVING: Duration = Duration::from_secs(5);
        self.stop.cancel();
        let deadline = after(patience);
        self.core.close(deadline);
        let topic = || self.core.topic.to_string();
        let report = match timeout_at(deadline + COMMITTING, &mut self.report).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => Err(Error::ThreadEnded { topic: topic() }),
            Err(_) => Err(Error::CloseTimedOut {
                topic: topic(),
                timeout: patience.saturating_add(COMMITTING),
            }),
        };
        if timeout(LEAVING, &mut self.left).await.is_err() {
            tracing::warn!(topic = %self.core.topic, "leaving the group takes long, it goes on in the background");
        }
        match self.core.end.take_failure() {
            Some(error) => Err(error),
            None => report,
        }
    }
}

impl std::fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceHandle").field("topic", &self.core.topic).finish_non_exhaustive()
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        if !self.core.end.is_closing() {
            self.core.close(Instant::now());
        }
    }
}

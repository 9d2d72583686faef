//! `SourceHandle`: looks at a running source, and closes it.

use std::sync::Arc;
use std::time::Duration;

use forebay_stream::Origin;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::{Shared, after};
use crate::Error;

/// Controls a source that was started. Dropping it closes the source without waiting for anything.
#[must_use = "dropping the handle closes the source"]
pub struct SourceHandle {
    shared: Arc<Shared>,
    stop: CancellationToken,
    // Comes when the poll thread has made its last commit; an error if it panicked.
    report: oneshot::Receiver<Result<CloseReport, Error>>,
    // Comes when it has left the group.
    left: oneshot::Receiver<()>,
}

/// How a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Records that were handed out and came to no outcome before the deadline. They will be read again.
    pub unresolved: usize,
    /// Records that failed or were abandoned. They, and what lies behind them, will be read again.
    pub held: usize,
}

/// What a source has in flight at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Records that are read and not yet resolved, held ones included.
    pub in_flight: usize,
    /// The bytes of their keys, values and headers.
    pub in_flight_bytes: usize,
    /// Records that failed or were abandoned, and hold their offsets.
    pub held: usize,
    /// Partitions that the group has asked for, and that are given back when what is in flight of them has ended.
    pub handing_over: usize,
    /// The record that has been in flight for longest.
    pub oldest: Option<Oldest>,
}

/// The record that has been in flight for longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Its topic, partition and offset.
    pub origin: Origin,
    /// How long ago it was read.
    pub age: Duration,
}

impl SourceHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        stop: CancellationToken,
        report: oneshot::Receiver<Result<CloseReport, Error>>,
        left: oneshot::Receiver<()>,
    ) -> Self {
        Self { shared, stop, report, left }
    }

    /// What the source has in flight now. Cheap enough to be asked every second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stops the stream, waits up to `patience` for the outcome of what it handed out, commits, and leaves the group.
    ///
    /// Where the group cannot be left within five seconds, because it is changing or its brokers do not answer, that
    /// goes on in the background.
    ///
    /// # Errors
    ///
    /// The error that ended the source, if the stream did not get to yield it; otherwise why the last commit failed.
    pub async fn close(mut self, patience: Duration) -> Result<CloseReport, Error> {
        // More than what the last commit is given.
        const COMMITTING: Duration = Duration::from_secs(15);
        const LEAVING: Duration = Duration::from_secs(5);
        self.stop.cancel();
        let deadline = after(patience);
        self.shared.close(deadline);
        let topic = || self.shared.topic.to_string();
        let report = match timeout_at(deadline + COMMITTING, &mut self.report).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => Err(Error::ThreadEnded { topic: topic() }),
            Err(_) => Err(Error::CloseTimedOut {
                topic: topic(),
                timeout: patience.saturating_add(COMMITTING),
            }),
        };
        if timeout(LEAVING, &mut self.left).await.is_err() {
            tracing::warn!(topic = %self.shared.topic, "still leaving the group");
        }
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => report,
        }
    }
}

impl std::fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceHandle").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.shared.closing().is_none() {
            self.shared.close(Instant::now());
        }
    }
}

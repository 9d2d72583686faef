//! `SourceHandle`: observes and closes a running source.

use std::sync::Arc;
use std::time::Duration;

use forebay_stream::Origin;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::{Shared, after};
use crate::Error;

/// A handle to a running source. Dropping it closes the source without waiting.
#[must_use = "dropping the handle closes the source"]
pub struct SourceHandle {
    shared: Arc<Shared>,
    stop: CancellationToken,
    // Received when the poll thread has made its last commit; an error if that thread panicked.
    report: oneshot::Receiver<Result<CloseReport, Error>>,
    // Received when the poll thread has left the group.
    left: oneshot::Receiver<()>,
}

/// The result of closing a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Number of records that were handed out and not settled before the deadline. They are read
    /// again by the next owners of their partitions.
    pub unresolved: usize,
    /// Number of records that failed or were abandoned. They and the records that follow them in
    /// their partitions are read again.
    pub held: usize,
}

/// The load of a source at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of records that are read and not settled, [held](Self::held) ones included.
    pub in_flight: usize,
    /// Size of these records in bytes, with a fixed overhead for each. With exactly-once delivery,
    /// records and their replies count until they are committed.
    pub in_flight_bytes: usize,
    /// Number of records that failed or were abandoned. Their offsets, and those that follow in
    /// their partitions, are not committed.
    pub held: usize,
    /// Number of partitions that are revoked and will be given back once their records in flight
    /// are settled.
    pub handing_over: usize,
    /// The record that has been in flight for the longest time.
    pub oldest: Option<Oldest>,
}

/// The record that has been in flight for the longest time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Topic, partition and offset of the record.
    pub origin: Origin,
    /// Time since the record was read.
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

    /// Returns the current load of the source. Cheap enough to be called every second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
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
            tracing::warn!(topic = %self.shared.topic, "leaving the group takes long, it goes on in the background");
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

//! `SourceHandle`: looks at a running source, and closes it.

use std::sync::Arc;
use std::time::Duration;

use forebay_stream::Origin;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::{Shared, after};
use crate::Error;

/// Controls a source that was started. Dropping it closes the source without waiting for anything.
#[must_use = "dropping the handle closes the source"]
pub struct SourceHandle {
    shared: Arc<Shared>,
    stop: CancellationToken,
    // Comes when the poll thread has left the group; an error if it panicked.
    report: oneshot::Receiver<Result<CloseReport, Error>>,
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
    /// Records that failed or were abandoned, and hold their offsets.
    pub held: usize,
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
    ) -> Self {
        Self { shared, stop, report }
    }

    /// What the source has in flight now. Cheap enough to be asked every second.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stops the stream, waits up to `patience` for the outcome of what it handed out, commits, and leaves the group.
    ///
    /// # Errors
    ///
    /// The error that ended the source, if the stream did not get to yield it; otherwise why the last commit failed.
    /// If the brokers do not let the consumer leave, this gives up fifteen seconds after the waiting for outcomes is
    /// over; the consumer then goes on leaving in the background.
    pub async fn close(mut self, patience: Duration) -> Result<CloseReport, Error> {
        const LEAVING: Duration = Duration::from_secs(15);
        self.stop.cancel();
        let deadline = after(patience);
        self.shared.close(deadline);
        let topic = || self.shared.topic.to_string();
        let leaving = async {
            timeout_at(deadline + LEAVING, self.shared.finishing.notified()).await.ok();
            sleep(LEAVING).await;
        };
        let report = tokio::select! {
            biased;
            report = &mut self.report => match report {
                Ok(report) => report,
                Err(_) => Err(Error::ThreadEnded { topic: topic() }),
            },
            () = leaving => Err(Error::CloseTimedOut { topic: topic(), timeout: LEAVING }),
        };
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

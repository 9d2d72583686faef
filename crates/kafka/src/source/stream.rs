//! `Records`: the records of the poll thread, handed out as a stream of events.

use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SourceItem;
use super::record::Record;
use super::shared::Shared;

/// Most records that are taken from the poll thread together, which costs little more than taking one.
const TOGETHER: usize = 64;

pub(super) struct Records {
    records: mpsc::Receiver<Record>,
    // Taken from the poll thread and not handed out yet, the next one last.
    taken: Vec<Record>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    over: bool,
}

impl Records {
    pub(super) fn new(
        records: mpsc::Receiver<Record>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Self {
        Self { records, taken: Vec::with_capacity(TOGETHER), shared, stop, over: false }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = SourceItem> + Send + 'static {
        stream::unfold(self, |mut intake| async move { Some((intake.next().await?, intake)) })
    }

    /// The next event. An error comes ahead of the records that are waiting: the sooner nothing new is begun, the less
    /// is answered twice.
    async fn next(&mut self) -> Option<SourceItem> {
        while !self.over {
            if !self.stop.is_cancelled()
                && !self.shared.has_failed()
                && let Some(record) = self.taken.pop()
            {
                match record.hand_out() {
                    Some(event) => return Some(Ok(event)),
                    // Its partition is being given back.
                    None => continue,
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.over = true,
                () = self.shared.failure_added.notified() => {
                    self.over = true;
                    return self.shared.take_failure().map(Err);
                }
                count = self.records.recv_many(&mut self.taken, TOGETHER) => {
                    if count == 0 {
                        self.over = true;
                        return self.shared.take_failure().map(Err);
                    }
                    self.taken.reverse();
                }
            }
        }
        None
    }
}

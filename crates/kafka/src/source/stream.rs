//! `Intake`: the records of the poll thread, handed out as a stream of events.

use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SourceItem;
use super::record::Record;
use super::shared::Shared;

pub(super) struct Intake {
    records: mpsc::Receiver<Record>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    over: bool,
}

impl Intake {
    pub(super) fn new(
        records: mpsc::Receiver<Record>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Self {
        Self { records, shared, stop, over: false }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = SourceItem> + Send + 'static {
        stream::unfold(self, |mut intake| async move { Some((intake.next().await?, intake)) })
    }

    /// The next event. An error comes ahead of the records that are waiting: the sooner nothing new is begun, the less
    /// is answered twice.
    async fn next(&mut self) -> Option<SourceItem> {
        while !self.over {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.over = true,
                () = self.shared.failure_added.notified() => {
                    self.over = true;
                    return self.shared.take_failure().map(Err);
                }
                record = self.records.recv() => match record.map(Record::hand_out) {
                    Some(Some(event)) => return Some(Ok(event)),
                    // Its partition is being given back.
                    Some(None) => {}
                    None => {
                        self.over = true;
                        return self.shared.take_failure().map(Err);
                    }
                },
            }
        }
        None
    }
}

//! `Records`: the records of the poll thread as a stream of events.

use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::SourceItem;
use super::core::Core;
use super::record::Record;

/// Maximum number of records taken from the channel at once, which costs little more than taking
/// one.
const MAX_AT_ONCE: usize = 64;

/// The stream of a source. It ends, and `over` is set, when `stop` is cancelled, when it has
/// yielded an error, or when the poll thread has ended.
pub(super) struct Records {
    channel: mpsc::Receiver<Record>,
    // Records taken from the channel and not handed out yet, in reverse order.
    buffered: Vec<Record>,
    core: Arc<Core>,
    stop: CancellationToken,
    over: bool,
}

impl Records {
    pub(super) fn new(
        channel: mpsc::Receiver<Record>,
        core: Arc<Core>,
        stop: CancellationToken,
    ) -> Self {
        Self { channel, buffered: Vec::with_capacity(MAX_AT_ONCE), core, stop, over: false }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = SourceItem> + Send + 'static {
        stream::unfold(self, |mut records| async move { Some((records.next().await?, records)) })
    }

    /// Returns the next event. Once the source has failed, yields the error instead of the records
    /// that wait: they might be answered twice, because their offsets may not be committed any
    /// more.
    async fn next(&mut self) -> Option<SourceItem> {
        while !self.over {
            if !self.stop.is_cancelled()
                && !self.core.end.has_failed()
                && let Some(record) = self.buffered.pop()
            {
                match record.hand_out() {
                    Some(event) => return Some(Ok(event)),
                    // The record's assignment no longer hands out records.
                    None => continue,
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.over = true,
                () = self.core.end.failed() => {
                    self.over = true;
                    return self.core.end.take_failure().map(Err);
                }
                count = self.channel.recv_many(&mut self.buffered, MAX_AT_ONCE) => {
                    if count == 0 {
                        self.over = true;
                        return self.core.end.take_failure().map(Err);
                    }
                    self.buffered.reverse();
                }
            }
        }
        None
    }
}

//! `Record`: one Kafka record on its way from the poll thread to the stream, and the pending offset
//! that its receipt settles.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_stream::{Event, Failure, Meta, Outcome, Receipt, Settle};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::time::Instant;

use super::assignment::Assignment;
use super::core::Core;
use super::offsets::Slot;
use super::staged::Output;
use super::transactions::Transactions;
use crate::native;

/// A record that has been read and counted as in flight, and not handed out yet.
pub(super) struct Record {
    value: Option<Bytes>,
    meta: Meta,
    pending: PendingOffset,
}

/// The pending offset of a record, which its receipt settles.
pub(crate) struct PendingOffset {
    core: Arc<Core>,
    assignment: Arc<Assignment>,
    slot: Slot,
    offset: i64,
    bytes: usize,
}

impl Record {
    /// Copies a message out of librdkafka and counts it as in flight. Returns `None` if its
    /// partition is not assigned any more or the record was read before.
    pub(super) fn read(
        message: &BorrowedMessage<'_>,
        core: &Arc<Core>,
        now: Instant,
    ) -> Option<Self> {
        let partition = message.partition();
        let offset = message.offset();
        let timestamp = message.timestamp().to_millis().and_then(|millis| {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.try_into().ok()?))
        });
        let meta = Meta {
            key: message.key().map(Bytes::copy_from_slice),
            headers: native::headers(message),
            timestamp,
            origin: core.origin(partition, offset),
        };
        let value = message.payload().map(Bytes::copy_from_slice);
        let bytes = size(&meta, value.as_ref());
        let (assignment, slot) = core.ledger.open(partition, offset, bytes, now)?;
        let pending = PendingOffset { core: Arc::clone(core), assignment, slot, offset, bytes };
        Some(Self { value, meta, pending })
    }

    pub(super) fn assignment(&self) -> &Arc<Assignment> {
        &self.pending.assignment
    }

    /// Turns the record into an event. Returns `None` if its partition no longer hands out records:
    /// the offset stays pending, and the record is read again by the partition's next owner.
    pub(super) fn hand_out(self) -> Option<Event<Option<Bytes>>> {
        let Self { value, meta, pending } = self;
        if let Err(moved) = pending.core.ledger.hand_out(&pending.assignment, pending.bytes) {
            pending.core.wake_for(moved);
            return None;
        }
        let assignment = Arc::clone(&pending.assignment);
        let slot = pending.slot;
        let receipt = Receipt::of(pending);
        assignment.watch(slot, receipt.watch());
        Some(Event { value, meta: Arc::new(meta), receipt })
    }
}

impl PendingOffset {
    /// Whether these transactions commit this offset.
    pub(crate) fn is_of(&self, transactions: &Transactions) -> bool {
        transactions.are_of(&self.core)
    }

    /// Returns the failure that a result for this record gets if the brokers refused an earlier
    /// result for it.
    pub(crate) fn refusal(&self, transactions: &Transactions) -> Option<Failure> {
        transactions.refusal(self.assignment.partition, self.offset)
    }

    /// Keeps a reply for the transaction that commits the offset.
    pub(crate) fn keep(&self, output: Output) {
        self.core.ledger.stage(&self.assignment, self.offset, output);
    }
}

impl Settle for PendingOffset {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { core, assignment, slot, offset, bytes } = *self;
        match outcome {
            Outcome::Done => {
                if let Some(moved) = core.ledger.complete(&assignment, slot, bytes) {
                    core.wake_for(moved);
                }
            }
            Outcome::Abandoned => {
                if let Some((held, moved)) = core.ledger.hold(&assignment) {
                    // Logged only if it is the assignment's first held record, because a pipeline
                    // that is dropped abandons many.
                    if held == 1 {
                        let origin = core.origin(assignment.partition, offset);
                        tracing::warn!(%origin, "record abandoned: commits stop at its offset until it is read again after a restart");
                    }
                    core.wake_for(moved);
                }
            }
            Outcome::Failed(failure) => {
                if let Some((_, moved)) = core.ledger.hold(&assignment) {
                    core.wake_for(moved);
                    let origin = core.origin(assignment.partition, offset);
                    core.unanswered(&assignment, origin, failure);
                }
            }
        }
    }
}

/// Returns the number of bytes by which a record counts towards `max_in_flight_bytes`.
fn size(meta: &Meta, value: Option<&Bytes>) -> usize {
    // Estimated size of a record's event, metadata, receipt and pending offset.
    const OVERHEAD: usize = 256;
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers =
        meta.headers.iter().map(|header| header.name.len() + length(header.value.as_ref()));
    OVERHEAD + length(meta.key.as_ref()) + length(value) + headers.sum::<usize>()
}

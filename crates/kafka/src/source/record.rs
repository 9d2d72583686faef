//! `Record`: one Kafka record on its way from the poll thread to the stream, and its receipt from there on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_stream::{Event, Failure, Meta, Outcome, Receipt, Settle};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::time::Instant;

use super::assignment::Assignment;
use super::offsets::Slot;
use super::shared::Shared;
use super::staged::Output;
use super::transactions::Transactions;
use crate::native;

/// A record that has been read and counted, and not yet handed out.
pub(super) struct Record {
    value: Option<Bytes>,
    meta: Meta,
    ticket: PendingOffset,
}

/// A record's place in its assignment.
pub(crate) struct PendingOffset {
    shared: Arc<Shared>,
    assignment: Arc<Assignment>,
    slot: Slot,
    offset: i64,
    bytes: usize,
}

impl Record {
    /// Copies a message out of librdkafka and counts it as in flight; `None` if its partition is not assigned any more.
    pub(super) fn read(
        message: &BorrowedMessage<'_>,
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Option<Self> {
        let (partition, offset) = (message.partition(), message.offset());
        let timestamp = message.timestamp().to_millis().and_then(|millis| {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.try_into().ok()?))
        });
        let meta = Meta {
            key: message.key().map(Bytes::copy_from_slice),
            headers: native::headers(message),
            timestamp,
            origin: shared.origin(partition, offset),
        };
        let value = message.payload().map(Bytes::copy_from_slice);
        let bytes = size(&meta, value.as_ref());
        let (assignment, slot) = shared.open(partition, offset, bytes, now)?;
        let ticket = PendingOffset { shared: Arc::clone(shared), assignment, slot, offset, bytes };
        Some(Self { value, meta, ticket })
    }

    pub(super) fn assignment(&self) -> &Arc<Assignment> {
        &self.ticket.assignment
    }

    /// The event for this record; `None` if its partition is being given back, so another member will read it.
    pub(super) fn hand_out(self) -> Option<Event<Option<Bytes>>> {
        let Self { value, meta, ticket } = self;
        if let Err(load) = ticket.assignment.take(ticket.bytes) {
            ticket.shared.resolved(load);
            return None;
        }
        let (assignment, slot) = (Arc::clone(&ticket.assignment), ticket.slot);
        let receipt = Receipt::of(ticket);
        assignment.watch(slot, receipt.watch());
        Some(Event { value, meta: Arc::new(meta), receipt })
    }
}

impl PendingOffset {
    /// Whether these transactions commit its offset.
    pub(crate) fn is_of(&self, transactions: &Transactions) -> bool {
        Arc::ptr_eq(&self.shared, &transactions.shared)
    }

    /// What a result of it has to fail with, if the brokers would not take it.
    pub(crate) fn refusal(&self, transactions: &Transactions) -> Option<Failure> {
        transactions.refusal(self.assignment.partition, self.offset)
    }

    /// Keeps an answer for the transaction that commits the offset.
    pub(crate) fn keep(&self, output: Output) {
        self.shared.stage(&self.assignment, self.offset, output);
    }
}

impl Settle for PendingOffset {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { shared, assignment, slot, offset, bytes } = *self;
        match outcome {
            Outcome::Done => {
                if let Some(load) = assignment.resolve(slot, bytes) {
                    shared.answered(load);
                }
            }
            Outcome::Abandoned => {
                if let Some(held) = assignment.hold() {
                    // One is worth a look; many are a pipeline that was dropped.
                    if held == 1 {
                        let origin = shared.origin(assignment.partition, offset);
                        tracing::warn!(%origin, "abandoned: commits stop here until a restart reads it again");
                    }
                    shared.held();
                }
            }
            Outcome::Failed(failure) => {
                if assignment.hold().is_some() {
                    shared.held();
                    let origin = shared.origin(assignment.partition, offset);
                    shared.unanswered(&assignment, origin, failure);
                }
            }
        }
    }
}

/// What a record takes of the memory that its source may use.
fn size(meta: &Meta, value: Option<&Bytes>) -> usize {
    // What the record costs beside its bytes: its event, its metadata, its receipt, its place in the tracker.
    const OWN: usize = 256;
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers =
        meta.headers.iter().map(|header| header.name.len() + length(header.value.as_ref()));
    OWN + length(meta.key.as_ref()) + length(value) + headers.sum::<usize>()
}

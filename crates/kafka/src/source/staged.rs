//! `Staged`: replies that wait for the transaction that commits their requests.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use forebay_stream::{Header, Meta};
use rdkafka::message::OwnedHeaders;
use smallvec::SmallVec;

use super::in_flight::InFlight;
use crate::DropHeaders;
use crate::sink::{Reply, ReplyTarget, headers};

/// A reply to be written in a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) target: ReplyTarget,
    pub(crate) reply: Reply,
    /// The headers of the request that the reply does not get. `None` for a copy.
    pub(crate) drop: Option<Arc<DropHeaders>>,
    /// Metadata of the request.
    pub(crate) meta: Arc<Meta>,
}

impl Output {
    pub(crate) fn headers(&self) -> Option<OwnedHeaders> {
        headers(&self.meta, self.drop.as_deref(), &self.reply.headers)
    }

    /// Returns the size of the reply with its key and headers, which librdkafka's
    /// `message.max.bytes` limits.
    pub(crate) fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = |headers: &[Header]| -> usize {
            headers.iter().map(|header| header.name.len() + length(&header.value)).sum()
        };
        length(&self.meta.key)
            + length(&self.reply.value)
            + headers(&self.meta.headers)
            + headers(&self.reply.headers)
    }

    /// Returns the number of bytes by which the reply counts towards `max_in_flight_bytes`. Its
    /// contents count twice, because librdkafka copies them.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 2 * self.size()
    }
}

/// The uncommitted records of an assignment, and the replies to them.
///
/// A transaction takes the replies to all records before the assignment's position, so it commits
/// exactly the requests whose replies it writes.
#[derive(Debug, Default)]
pub(super) struct Staged {
    // In offset order.
    records: VecDeque<Uncommitted>,
    // Number of leading records whose replies the open transaction has taken.
    taken: usize,
}

#[derive(Debug)]
struct Uncommitted {
    offset: i64,
    // Size of the record and the replies to it.
    bytes: usize,
    outputs: SmallVec<[Output; 1]>,
}

impl Staged {
    pub(super) fn read(&mut self, offset: i64, bytes: usize) {
        self.records.push_back(Uncommitted { offset, bytes, outputs: SmallVec::new() });
    }

    /// Keeps a reply to a record that is not settled. Returns the reply's weight.
    pub(super) fn add(&mut self, offset: i64, output: Output) -> usize {
        let bytes = output.weight();
        let found = self.records.binary_search_by_key(&offset, |record| record.offset);
        debug_assert!(found.is_ok(), "a record is not committed before it is settled");
        if let Ok(at) = found {
            self.records[at].bytes += bytes;
            self.records[at].outputs.push(output);
        }
        bytes
    }

    /// Takes the replies to all records before `position`, except those that were taken by an
    /// earlier call. Returns them in offset order, and the size of the records and replies.
    pub(super) fn take_before(&mut self, position: i64) -> (Vec<(i64, Output)>, usize) {
        let mut outputs = Vec::new();
        let mut bytes = 0;
        let ready =
            self.records.iter_mut().skip(self.taken).take_while(|record| record.offset < position);
        for record in ready {
            self.taken += 1;
            bytes += record.bytes;
            outputs.extend(record.outputs.drain(..).map(|output| (record.offset, output)));
        }
        (outputs, bytes)
    }

    /// Removes all records before `position`, which are committed. Returns the load that is no
    /// longer in flight.
    pub(super) fn remove_committed(&mut self, position: i64) -> InFlight {
        let mut bytes = 0;
        while let Some(record) = self.records.pop_front_if(|record| record.offset < position) {
            bytes += record.bytes;
            self.taken -= 1;
        }
        // Only bytes: each record was subtracted from the number of records when it was settled.
        InFlight { records: 0, bytes }
    }
}

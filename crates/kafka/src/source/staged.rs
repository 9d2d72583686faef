//! `Staged`: what was made of an assignment's records and waits for the transaction that commits them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use forebay_stream::{Header, Meta};
use rdkafka::message::OwnedHeaders;
use smallvec::SmallVec;

use super::in_flight::InFlight;
use crate::sink::{Reply, ReplyTarget, headers};

/// A record to be written.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) place: ReplyTarget,
    pub(crate) reply: Reply,
    /// The reply's place in its request's trace.
    pub(crate) traceparent: Option<String>,
    /// What its request came with.
    pub(crate) meta: Arc<Meta>,
}

impl Output {
    pub(crate) fn headers(&self) -> Option<OwnedHeaders> {
        headers(&self.meta, self.traceparent.as_deref(), &self.reply.headers)
    }

    /// What librdkafka's `message.max.bytes` is about.
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

    /// What it takes of the memory that its source may use: it is kept here, and librdkafka has a copy.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 2 * self.size()
    }
}

/// The records of an assignment that are not committed, and what was made of them. A transaction takes the outputs of
/// those before the first that is not answered, so whatever it commits is exactly what it has written the answers of.
#[derive(Debug, Default)]
pub(super) struct Staged {
    // In the order of their offsets.
    records: VecDeque<Uncommitted>,
    // How many of them the open transaction has taken.
    taken: usize,
}

#[derive(Debug)]
struct Uncommitted {
    offset: i64,
    // What it weighs, with its outputs.
    bytes: usize,
    outputs: SmallVec<[Output; 1]>,
}

impl Staged {
    pub(super) fn read(&mut self, offset: i64, bytes: usize) {
        self.records.push_back(Uncommitted { offset, bytes, outputs: SmallVec::new() });
    }

    /// Keeps an output of a record that is not answered. Returns what it weighs.
    pub(super) fn add(&mut self, offset: i64, output: Output) -> usize {
        let bytes = output.weight();
        let found = self.records.binary_search_by_key(&offset, |record| record.offset);
        debug_assert!(found.is_ok(), "a record that is not answered is not committed");
        if let Ok(at) = found {
            self.records[at].bytes += bytes;
            self.records[at].outputs.push(output);
        }
        bytes
    }

    /// The outputs of all records before `position` that were not taken before, in the records' order, and what these
    /// records weigh.
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

    /// All records before `position` are committed. Returns what they weighed.
    pub(super) fn written(&mut self, position: i64) -> InFlight {
        let mut bytes = 0;
        while let Some(record) = self.records.pop_front_if(|record| record.offset < position) {
            bytes += record.bytes;
            self.taken -= 1;
        }
        // Each was counted as a record until it was answered.
        InFlight { records: 0, bytes }
    }
}

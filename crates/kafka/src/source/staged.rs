//! `Staged`: what was made of an assignment's records and waits for the transaction that commits them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::OwnedHeaders;

use super::load::Load;
use crate::sink::ReplyKind;

/// A record to be written.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) kind: ReplyKind,
    pub(crate) topic: Arc<str>,
    /// `None` leaves it to the key.
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Option<OwnedHeaders>,
    /// The bytes of the headers' names and values.
    pub(crate) headers_size: usize,
}

impl Output {
    /// What librdkafka's `message.max.bytes` is about.
    pub(crate) fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.value) + self.headers_size
    }
}

/// Outputs by the offset that they answer. A transaction takes those before the first offset that is not answered, so
/// whatever it commits is exactly what it has written the answers of.
#[derive(Debug, Default)]
pub(super) struct Staged {
    outputs: BTreeMap<i64, Vec<Output>>,
    // The sizes of the records that were read and are not committed, in the order of their offsets.
    unwritten: VecDeque<(i64, usize)>,
}

impl Staged {
    pub(super) fn read(&mut self, offset: i64, bytes: usize) {
        self.unwritten.push_back((offset, bytes));
    }

    pub(super) fn add(&mut self, offset: i64, output: Output) {
        self.outputs.entry(offset).or_default().push(output);
    }

    /// The outputs of all offsets less than `position`, in their order.
    pub(super) fn take_before(&mut self, position: i64) -> Vec<(i64, Output)> {
        let later = self.outputs.split_off(&position);
        let ready = std::mem::replace(&mut self.outputs, later);
        ready.into_iter().flat_map(|(at, of)| of.into_iter().map(move |one| (at, one))).collect()
    }

    /// How many records before `position` are not committed.
    pub(super) fn unwritten_before(&self, position: i64) -> usize {
        self.unwritten.partition_point(|(offset, _)| *offset < position)
    }

    /// All offsets less than `position` are committed. Returns what they weighed.
    pub(super) fn written(&mut self, position: i64) -> Load {
        let mut load = Load::default();
        while let Some((_, bytes)) = self.unwritten.pop_front_if(|(offset, _)| *offset < position) {
            load += Load::of_one(bytes);
        }
        load
    }
}

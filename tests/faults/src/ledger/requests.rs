//! The ledger's page of requests: what was asked, where it lies, and what has become of it.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

use super::{Due, Ledger, Request, key_name};
use crate::client::Offsets;
use crate::request_format::{self, Kind};

impl Ledger {
    /// A new request, as the client takes it.
    pub(crate) fn ask(&mut self, key: Option<u16>, kind: Kind) -> Value {
        let number = self.requests.len();
        let seq = self.seqs.entry(key).or_default();
        *seq += 1;
        let seq = *seq;
        self.requests.push(Request { key, seq, kind, place: None, answers: 0, due: Due::Yes });
        self.figures.requests += 1;
        request_format::record(&self.tag, number, key.map(key_name).as_deref(), seq, kind)
    }

    /// What the client answered to a command to produce.
    pub(crate) fn produced(&mut self, answer: &Value) {
        for ack in answer["acks"].as_array().into_iter().flatten() {
            let (Some(number), Some(partition), Some(offset)) =
                (ack[0].as_u64(), ack[1].as_i64(), ack[2].as_i64())
            else {
                continue;
            };
            let (number, place) = (to_index(number), (to_partition(partition), offset));
            let request = &mut self.requests[number];
            request.place = Some(place);
            if request.answers == 0 && request.due == Due::Yes {
                self.open(place, number);
            }
        }
        for refusal in answer["refused"].as_array().into_iter().flatten() {
            // Whether the brokers have it is not known, so it may be answered and need not be.
            if let Some(number) = refusal[0].as_u64() {
                self.requests[to_index(number)].due = Due::Perhaps;
                self.figures.unconfirmed += 1;
                self.unconfirmed = Some(refusal[1].to_string());
            }
        }
    }

    fn open(&mut self, place: (i32, i64), number: usize) {
        let idle = self.first_open(place.0).is_none();
        self.open.insert(place, number);
        if idle {
            self.progress.insert(place.0, Instant::now());
        }
    }

    /// The requests from this number on were aborted by their sender.
    pub(crate) fn abort_from(&mut self, number: usize) {
        for request in &mut self.requests[number..] {
            request.due = Due::Never;
        }
    }

    /// What is open below these offsets is gone from the topic. Returns how many requests that are.
    pub(crate) fn excuse_before(&mut self, offsets: &Offsets) -> usize {
        let (gone, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|((partition, offset), _)| {
                offsets.get(partition).is_some_and(|first| offset < first)
            });
        self.open = open;
        for number in gone.values() {
            self.requests[*number].due = Due::Perhaps;
        }
        gone.len()
    }

    /// The topic of requests is another one now, of the same name: places in it mean something else.
    pub(crate) fn recreated(&mut self) {
        self.open.clear();
        self.floor.clear();
        for request in &mut self.requests {
            request.place = None;
            if request.answers == 0 {
                request.due = Due::Perhaps;
            }
        }
    }

    pub(crate) fn next_number(&self) -> usize {
        self.requests.len()
    }
}

fn to_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_partition(partition: i64) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

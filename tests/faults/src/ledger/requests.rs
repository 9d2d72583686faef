//! The requests in the ledger: their records, their origins, and the events after which they need
//! no answer.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

use super::{Due, Ledger, Request, key_name};
use crate::client::Offsets;
use crate::request_format::{self, Kind};

impl Ledger {
    /// Adds a request, and returns its record for the client's `produce` command.
    pub(crate) fn ask(&mut self, key: Option<u16>, kind: Kind) -> Value {
        let number = self.requests.len();
        let seq = self.seqs.entry(key).or_default();
        *seq += 1;
        let seq = *seq;
        self.requests.push(Request { key, seq, kind, origin: None, answers: 0, due: Due::Yes });
        self.figures.requests += 1;
        request_format::record(&self.tag, number, key.map(key_name).as_deref(), seq, kind)
    }

    /// Takes the client's result of a `produce` command: confirmations and refusals.
    pub(crate) fn produced(&mut self, answer: &Value) {
        for ack in answer["acks"].as_array().into_iter().flatten() {
            let (Some(number), Some(partition), Some(offset)) =
                (ack[0].as_u64(), ack[1].as_i64(), ack[2].as_i64())
            else {
                continue;
            };
            let number = to_index(number);
            let origin = (to_partition(partition), offset);
            let request = &mut self.requests[number];
            request.origin = Some(origin);
            if request.answers == 0 && request.due == Due::Yes {
                self.mark_open(origin, number);
            }
        }
        for refusal in answer["refused"].as_array().into_iter().flatten() {
            // The brokers may have stored the request all the same, so an answer is possible.
            if let Some(number) = refusal[0].as_u64() {
                self.requests[to_index(number)].due = Due::Perhaps;
                self.figures.unconfirmed += 1;
                self.unconfirmed = Some(refusal[1].to_string());
            }
        }
    }

    fn mark_open(&mut self, origin: (i32, i64), number: usize) {
        let idle = self.first_open(origin.0).is_none();
        self.open.insert(origin, number);
        if idle {
            self.progress.insert(origin.0, Instant::now());
        }
    }

    /// Marks the requests from `number` on as part of an aborted transaction.
    pub(crate) fn abort_from(&mut self, number: usize) {
        for request in &mut self.requests[number..] {
            request.due = Due::Never;
        }
    }

    /// Notes that the records below `offsets` are deleted from the topic. Returns the number of
    /// deleted requests without an answer, which need none any more.
    pub(crate) fn mark_deleted_before(&mut self, offsets: &Offsets) -> usize {
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

    /// Notes that the topic of requests was deleted and created again, which makes all known
    /// origins invalid. Requests without an answer need none now.
    pub(crate) fn recreated(&mut self) {
        self.open.clear();
        self.floor.clear();
        for request in &mut self.requests {
            request.origin = None;
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

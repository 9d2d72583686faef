//! What was asked, what was answered, and what can be said about an answer the moment that it is read.

mod answers;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Offsets;
use crate::pipeline::Delivery;
use crate::request_format::Kind;
use crate::tamper::Tampering;
use crate::violation::{Tamper, Violation};

/// What a scenario expects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) delivery: Delivery,
    pub(crate) duplicates: Duplicates,
    pub(crate) order: Order,
    /// The longest that a partition which has requests may go without an answer.
    pub(crate) patience: Duration,
    pub(crate) tamper: Option<Tamper>,
}

/// Which requests may be answered twice, where delivery is at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// None: nothing happens that a pipeline could not do in order.
    None,
    /// So many as were in flight or uncommitted at the faults, and none that was committed.
    Bounded,
    /// Any: counted.
    Counted,
}

/// Whose answers come in the order of the requests, for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Results only: an error reply does not wait for the results before it.
    Results,
    /// Those of errors too.
    All,
    /// Nobody's.
    None,
}

/// One request.
struct Request {
    key: Option<u16>,
    seq: u32,
    kind: Kind,
    place: Option<(i32, i64)>,
    answers: u32,
    due: Due,
}

/// Whether a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Yes,
    /// It may be there or not.
    Perhaps,
    /// It belongs to a transaction that was aborted.
    Never,
}

pub(crate) struct Ledger {
    pub(crate) rules: Rules,
    tag: String,
    requests: Vec<Request>,
    seqs: HashMap<Option<u16>, u32>,
    // The highest sequence number answered, by key.
    reached: HashMap<u16, u32>,
    // Requests that have a place and no answer, by place.
    open: BTreeMap<(i32, i64), usize>,
    progress: HashMap<i32, Instant>,
    positions: HashMap<String, Offsets>,
    // Below it, nothing may be answered again.
    floor: Offsets,
    allowance: usize,
    // Why the last of them was not.
    pub(crate) unconfirmed: Option<String>,
    pub(crate) figures: Figures,
    violations: Vec<Violation>,
    tamper: Option<Tampering>,
}

/// What is told of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: usize,
    pub(crate) answered: usize,
    pub(crate) errors: usize,
    /// Answers that are no replies but dead letters.
    pub(crate) dead: usize,
    pub(crate) duplicates: usize,
    /// Requests that the brokers did not confirm to their sender.
    pub(crate) unconfirmed: usize,
    /// Of all answers with the numbers of their requests, whatever their order.
    pub(crate) digest: u64,
    pub(crate) longest_silence: Duration,
}

/// Shared by the tasks of a run.
#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn new(tag: String, rules: Rules) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(tag, rules))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn new(tag: String, rules: Rules) -> Self {
        Self {
            rules,
            tag,
            requests: Vec::new(),
            seqs: HashMap::new(),
            reached: HashMap::new(),
            open: BTreeMap::new(),
            progress: HashMap::new(),
            positions: HashMap::new(),
            floor: Offsets::new(),
            allowance: 0,
            unconfirmed: None,
            figures: Figures::default(),
            violations: Vec::new(),
            tamper: rules.tamper.map(Tampering::new),
        }
    }

    pub(crate) fn add(&mut self, violation: Violation) {
        // Enough to see what is wrong.
        if self.violations.len() < 20 {
            self.violations.push(violation);
        }
    }

    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub(crate) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Whether every request that has a place is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The first request of a partition that has no answer.
    pub(crate) fn first_open(&self, partition: i32) -> Option<(i64, String)> {
        let mut open = self.open.range((partition, i64::MIN)..=(partition, i64::MAX));
        open.next().map(|((_, offset), number)| (*offset, format!("{}{number}", self.tag)))
    }

    /// Requests without an answer that must have one, some of them by name.
    pub(crate) fn unanswered(&self) -> (usize, String) {
        let names: Vec<_> = self
            .open
            .iter()
            .take(10)
            .map(|((partition, offset), number)| {
                format!("{}{number} at {partition}:{offset}", self.tag)
            })
            .collect();
        (self.open.len(), names.join(", "))
    }

    /// The place after the last request of each partition.
    pub(crate) fn ends(&self) -> Offsets {
        let mut ends = Offsets::new();
        for request in self.requests.iter().filter(|request| request.due == Due::Yes) {
            if let Some((partition, offset)) = request.place {
                let end = ends.entry(partition).or_default();
                *end = (*end).max(offset + 1);
            }
        }
        ends
    }

    /// Whether the reader has come to these offsets.
    pub(crate) fn has_read(&self, topic: &str, ends: &Offsets) -> bool {
        let read = self.positions.get(topic);
        let position = |partition| read.and_then(|read| read.get(partition)).copied().unwrap_or(0);
        ends.iter().all(|(partition, end)| position(partition) >= *end)
    }

    /// The partition that has waited longest for an answer.
    pub(crate) fn longest_wait(&self) -> Option<(i32, Duration)> {
        let mut longest = None;
        let mut partition = i32::MIN;
        // One look at each partition that has something open.
        while let Some(((found, _), _)) = self.open.range((partition, i64::MIN)..).next() {
            let wait = self.progress.get(found).map_or(Duration::ZERO, Instant::elapsed);
            longest = longest.max(Some((wait, *found)));
            partition = found + 1;
        }
        longest.map(|(wait, partition)| (partition, wait))
    }
}

fn key_name(key: u16) -> String {
    format!("key-{key}")
}

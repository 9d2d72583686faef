//! The ledger of a run: all requests and answers, with the checks that are possible as soon as an
//! answer is read.

mod answers;
mod requests;
#[cfg(test)]
mod tests;

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Offsets;
use crate::pipeline::Delivery;
use crate::request_format::Kind;
use crate::tamper::Tampering;
use crate::violation::{Tamper, Violation};

/// The behaviour that a scenario expects of the workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) delivery: Delivery,
    pub(crate) duplicates: Duplicates,
    pub(crate) order: Order,
    /// Longest time without an answer for a partition that has open requests.
    pub(crate) patience: Duration,
    pub(crate) tamper: Option<Tamper>,
}

/// The requests that may be answered twice with at-least-once delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// No request, because every worker of the scenario has time to drain.
    None,
    /// Requests that were in flight or uncommitted at a fault: not more than these, and none whose
    /// offset was committed.
    Bounded,
    /// Any request; the summary tells how many.
    Counted,
}

/// The answers that must come in the order of the requests of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Only results, because an error reply may overtake the results of earlier requests.
    Results,
    /// Results and error replies.
    All,
    /// No answers.
    None,
}

struct Request {
    key: Option<u16>,
    /// Number of the request among those of its key, from 1 on.
    seq: u32,
    kind: Kind,
    /// Partition and offset, once the brokers have confirmed the request.
    origin: Option<(i32, i64)>,
    /// Number of answers so far.
    answers: u32,
    due: Due,
}

/// The answer that a request needs: one, perhaps one, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Yes,
    /// The request may be missing from the topic, so it may have an answer but needs none.
    Perhaps,
    /// The request belongs to an aborted transaction, so an answer would be wrong.
    Never,
}

pub(crate) struct Ledger {
    pub(crate) rules: Rules,
    tag: String,
    requests: Vec<Request>,
    seqs: HashMap<Option<u16>, u32>,
    // The highest sequence number among the requests that are answered, by key.
    reached: HashMap<u16, u32>,
    // Numbers of the open requests, by origin. A request is open from its confirmation by the
    // brokers until its first answer, unless it needs none.
    open: BTreeMap<(i32, i64), usize>,
    // The time since which each partition waits for an answer: that of its last answer, or of the
    // first request that came when no request was open.
    progress: HashMap<i32, Instant>,
    // Offsets up to which the Java client has read the answers, by topic.
    positions: HashMap<String, Offsets>,
    // Committed offsets at the last fault after which another worker may take over. No request
    // below them may be answered again.
    floor: Offsets,
    // Number of duplicates that the faults so far allow.
    allowance: usize,
    // Error of the last request that the brokers have not confirmed.
    pub(crate) unconfirmed: Option<String>,
    pub(crate) figures: Figures,
    violations: Vec<Violation>,
    tamper: Option<Tampering>,
}

/// The figures of a run, for its summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: usize,
    pub(crate) answered: usize,
    pub(crate) errors: usize,
    /// Requests answered by a dead letter.
    pub(crate) dead: usize,
    pub(crate) duplicates: usize,
    /// Requests that the brokers did not confirm to the sender.
    pub(crate) unconfirmed: usize,
    /// Sum of the digests of all answers, which does not depend on their order.
    pub(crate) digest: u64,
    /// Longest time without an answer for a partition that had open requests.
    pub(crate) longest_silence: Duration,
}

/// A handle to the ledger, for the tasks of a run.
#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn new(tag: String, rules: Rules) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(tag, rules))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock()
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
        // The first violation ends the scenario, so a few are enough.
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

    /// Returns whether no request is open.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Returns the offset and id of a partition's first request without an answer.
    pub(crate) fn first_open(&self, partition: i32) -> Option<(i64, String)> {
        let mut open = self.open.range((partition, i64::MIN)..=(partition, i64::MAX));
        open.next().map(|((_, offset), number)| (*offset, format!("{}{number}", self.tag)))
    }

    /// Returns the number of open requests, and the ids of some of them.
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

    /// Returns the offset after the last request of each partition.
    pub(crate) fn ends(&self) -> Offsets {
        let mut ends = Offsets::new();
        for request in self.requests.iter().filter(|request| request.due == Due::Yes) {
            if let Some((partition, offset)) = request.origin {
                let end = ends.entry(partition).or_default();
                *end = (*end).max(offset + 1);
            }
        }
        ends
    }

    /// Returns whether the Java client has read `topic` up to `ends`.
    pub(crate) fn has_read(&self, topic: &str, ends: &Offsets) -> bool {
        let read = self.positions.get(topic);
        let position = |partition| read.and_then(|read| read.get(partition)).copied().unwrap_or(0);
        ends.iter().all(|(partition, end)| position(partition) >= *end)
    }

    /// Returns the partition that has waited longest for an answer, and for how long.
    pub(crate) fn longest_wait(&self) -> Option<(i32, Duration)> {
        let mut longest = None;
        let mut partition = i32::MIN;
        // One step per partition that has open requests.
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

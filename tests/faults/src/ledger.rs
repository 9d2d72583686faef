//! What was asked, what was answered, and what can be said about an answer the moment that it is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::client::{Offsets, offsets};
use crate::identity::{self, Kind};
use crate::liar::Liar;
use crate::pipeline::Delivery;
use crate::violation::{Invariant, Tamper, Violation};

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
    liar: Option<Liar>,
}

/// What is told of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: usize,
    pub(crate) answered: usize,
    pub(crate) errors: usize,
    pub(crate) duplicates: usize,
    /// Requests that the brokers did not confirm to their sender.
    pub(crate) unconfirmed: usize,
    /// Of all answers with the numbers of their requests, whatever their order.
    pub(crate) digest: u64,
    pub(crate) longest_silence: Duration,
}

/// Shared by the tasks of a field.
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
            liar: rules.tamper.map(Liar::new),
        }
    }

    // Requests.

    /// A new request, as the client takes it.
    pub(crate) fn ask(&mut self, key: Option<u16>, kind: Kind) -> Value {
        let number = self.requests.len();
        let seq = self.seqs.entry(key).or_default();
        *seq += 1;
        let seq = *seq;
        self.requests.push(Request { key, seq, kind, place: None, answers: 0, due: Due::Yes });
        self.figures.requests += 1;
        identity::record(&self.tag, number, key.map(key_name).as_deref(), seq, kind)
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

    // Answers.

    /// What the client read from a topic of answers.
    pub(crate) fn read(&mut self, topic: &str, line: &Value) {
        for record in line["records"].as_array().into_iter().flatten() {
            let Some(liar) = &mut self.liar else {
                self.answered(record);
                continue;
            };
            for record in liar.tell(record) {
                self.answered(&record);
            }
        }
        self.positions.entry(topic.to_owned()).or_default().extend(offsets(&line["positions"]));
        if let Some(error) = line["follow_error"].as_str() {
            self.add(Invariant::Progress.broken(format!("the independent reader: {error}")));
        }
    }

    fn answered(&mut self, answer: &Value) {
        let number = identity::number(&self.tag, answer);
        let Some(number) = number.filter(|number| *number < self.requests.len()) else {
            self.add(Invariant::Identity.broken(format!("an answer to nothing: {answer}")));
            return;
        };
        let request = &mut self.requests[number];
        request.answers += 1;
        let Request { key, seq, kind, place, answers, due } = *request;
        if due == Due::Never {
            let text = format!("{}{number} was answered, and its sender had aborted it", self.tag);
            self.add(Invariant::Identity.broken(text));
        }
        let name = key.map(key_name);
        let fault = identity::fault(&self.tag, number, name.as_deref(), seq, kind, answer);
        if let Some(fault) = fault {
            self.add(Invariant::Identity.broken(fault));
        }
        if answers > 1 {
            self.again(number, place);
            return;
        }
        self.figures.answered += 1;
        self.figures.digest =
            self.figures.digest.wrapping_add(identity::digest(&self.tag, number, answer));
        self.figures.errors += usize::from(identity::is_error(answer));
        if let Some(place) = place {
            self.close(place);
        }
        if self.rules.order == Order::Results && kind == Kind::Good {
            self.in_order(number, key, seq);
        }
    }

    fn again(&mut self, number: usize, place: Option<(i32, i64)>) {
        self.figures.duplicates += 1;
        let id = format!("{}{number} at {place:?}", self.tag);
        if self.rules.delivery == Delivery::ExactlyOnce {
            self.add(Invariant::ExactlyOnce.broken(format!("{id} was answered twice")));
            return;
        }
        match self.rules.duplicates {
            Duplicates::None => {
                self.add(Invariant::BoundedDuplicates.broken(format!("{id} was answered twice")));
            }
            Duplicates::Bounded => {
                let floor = place.and_then(|(partition, offset)| {
                    self.floor.get(&partition).filter(|floor| offset < **floor)
                });
                if let Some(floor) = floor {
                    let text = format!("{id} was answered again though {floor} was committed");
                    self.add(Invariant::BoundedDuplicates.broken(text));
                }
            }
            Duplicates::Counted => {}
        }
    }

    fn close(&mut self, place: (i32, i64)) {
        self.open.remove(&place);
        let now = Instant::now();
        if let Some(last) = self.progress.insert(place.0, now) {
            self.figures.longest_silence = self.figures.longest_silence.max(now - last);
        }
    }

    fn in_order(&mut self, number: usize, key: Option<u16>, seq: u32) {
        let Some(key) = key else { return };
        let reached = self.reached.entry(key).or_default();
        if seq < *reached {
            let text = format!(
                "{}{number} is number {seq} of {} and was first answered after number {reached}",
                self.tag,
                key_name(key)
            );
            self.add(Invariant::KeyOrder.broken(text));
        } else {
            *reached = seq;
        }
    }

    // Faults.

    /// A worker was killed when this was committed: what lies below is not answered again, and of what lies above as
    /// much may be as was answered, or in flight.
    pub(crate) fn killed(&mut self, committed: &Offsets, in_flight: usize) {
        let uncommitted = self.requests.iter().rev().filter(|request| {
            request.answers > 0
                && request.place.is_some_and(|(partition, offset)| {
                    offset >= committed.get(&partition).copied().unwrap_or(0)
                })
        });
        self.allowance += uncommitted.count() + in_flight;
        self.floor.clone_from(committed);
    }

    /// So many more requests may be answered twice.
    pub(crate) fn allow(&mut self, count: usize) {
        self.allowance += count;
    }

    // What the oracle asks.

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

fn to_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn to_partition(partition: i64) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

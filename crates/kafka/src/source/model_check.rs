//! Checks the offset tracking of a whole source against a simple model: records are read, handed
//! out and settled in any order, while partitions are assigned and revoked and commits fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::time::Instant;

use super::assignment::{Assignment, Commits};
use super::in_flight::InFlight;
use super::ledger::Ledger;
use super::offsets::Slot;
use super::staged::Output;
use crate::sink::{Reply, ReplyTarget};

const PARTITIONS: i32 = 3;

/// Limits of what is in flight. The model reads on although they are reached.
const LIMIT: usize = 20;
const LIMIT_BYTES: usize = 2000;

#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Revoke(i32),
    Read {
        partition: i32,
        gap: u8,
        bytes: u8,
    },
    /// librdkafka returns a record again that it returned before.
    ReadAgain {
        partition: i32,
        back: u8,
    },
    HandOut(prop::sample::Index),
    Complete(prop::sample::Index),
    Hold(prop::sample::Index),
    /// Commits all positions, in a transaction if delivery is exactly once.
    Commit,
    CommitFails(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS;
    let step = prop_oneof![
        2 => partition.clone().prop_map(Step::Assign),
        1 => partition.clone().prop_map(Step::Revoke),
        8 => (partition.clone(), 0_u8..3, any::<u8>())
            .prop_map(|(partition, gap, bytes)| Step::Read { partition, gap, bytes }),
        1 => (partition.clone(), 1_u8..5)
            .prop_map(|(partition, back)| Step::ReadAgain { partition, back }),
        8 => any::<prop::sample::Index>().prop_map(Step::HandOut),
        8 => any::<prop::sample::Index>().prop_map(Step::Complete),
        1 => any::<prop::sample::Index>().prop_map(Step::Hold),
        4 => Just(Step::Commit),
        1 => partition.prop_map(Step::CommitFails),
    ];
    prop::collection::vec(step, 0..300)
}

/// A record that was read, as the source and the model know it.
struct Record {
    partition: i32,
    epoch: u32,
    offset: i64,
    bytes: usize,
    handed_out: bool,
    assignment: Arc<Assignment>,
    slot: Slot,
}

/// A partition in the model.
#[derive(Default)]
struct Partition {
    // Number of times that the partition was assigned. A record belongs to the epoch it was read in.
    epoch: u32,
    assigned: bool,
    // All offsets read in this epoch, and whether each is done. Held offsets are never done.
    read: BTreeMap<i64, bool>,
    sizes: BTreeMap<i64, usize>,
    held: usize,
    // The position last committed, unless that commit failed.
    committed: Option<i64>,
    // The position that a transaction has committed.
    written: Option<i64>,
    next: i64,
}

impl Partition {
    fn position(&self) -> Option<i64> {
        let pending = self.read.iter().find(|(_, done)| !**done).map(|(at, _)| *at);
        pending.or_else(|| self.read.keys().next_back().map(|last| last + 1))
    }

    /// Returns the position to commit, if it moved since the last commit.
    fn commit(&mut self) -> Option<i64> {
        let position = self.position()?;
        let first = *self.read.keys().next()?;
        let moved = position > self.committed.unwrap_or(first);
        moved.then(|| *self.committed.insert(position))
    }

    /// Adds the weight of a staged output to the size of its record.
    fn stage(&mut self, offset: i64) {
        *self.sizes.entry(offset).or_default() += output(offset).weight();
    }

    /// Returns the number of records and bytes in flight.
    fn load(&self, with_outputs: bool) -> (usize, usize) {
        let pending = self.read.values().filter(|done| !**done).count();
        // With transactions, the bytes of a record and its outputs count until they are committed.
        let counts = |offset: &i64, done: bool| match self.written {
            _ if !with_outputs => !done,
            written => written.is_none_or(|written| *offset >= written),
        };
        let counted = self.read.iter().filter(|(offset, done)| counts(offset, **done));
        (pending, counted.map(|(offset, _)| self.sizes[offset]).sum())
    }
}

fn output(offset: i64) -> Output {
    let reply = Reply { value: Some(offset.to_string().into()), ..Reply::default() };
    let target = ReplyTarget { topic: "replies".into(), partition: None, asked: false };
    Output { target, reply, drop: None, meta: Arc::default() }
}

#[expect(
    clippy::too_many_lines,
    reason = "the arms for the steps are easiest to compare side by side"
)]
fn check(steps: Vec<Step>, commits: Commits) -> Result<(), TestCaseError> {
    let with_outputs = commits == Commits::WithOutputs;
    let ledger = Ledger::new(InFlight { records: LIMIT, bytes: LIMIT_BYTES }, commits);
    let mut model: BTreeMap<i32, Partition> = BTreeMap::new();
    let mut records: Vec<Record> = Vec::new();
    for step in steps {
        match step {
            Step::Assign(partition) => {
                let state = model.entry(partition).or_default();
                if !state.assigned {
                    ledger.assign_anew(partition);
                    *state = Partition {
                        epoch: state.epoch + 1,
                        assigned: true,
                        next: state.next,
                        ..Partition::default()
                    };
                }
            }
            Step::Revoke(partition) => {
                let state = model.entry(partition).or_default();
                let ended = ledger.revoke(&[partition]);
                prop_assert_eq!(ended.len(), usize::from(state.assigned));
                if state.assigned {
                    // The last position is returned again, because its commit may still fail.
                    state.committed = None;
                    let position = state.commit().filter(|_| !with_outputs);
                    prop_assert_eq!(ended[0].1.commit, position);
                    prop_assert_eq!(ended[0].1.held, state.held);
                }
                state.assigned = false;
                state.read.clear();
            }
            Step::Read { partition, gap, bytes } => {
                let state = model.entry(partition).or_default();
                let offset = state.next + i64::from(gap);
                let bytes = usize::from(bytes);
                let opened = ledger.open(partition, offset, bytes, Instant::now());
                prop_assert_eq!(opened.is_some(), state.assigned);
                let Some((assignment, slot)) = opened else { continue };
                state.next = offset + 1;
                state.read.insert(offset, false);
                state.sizes.insert(offset, bytes);
                let epoch = state.epoch;
                let handed_out = false;
                let record =
                    Record { partition, epoch, offset, bytes, handed_out, assignment, slot };
                records.push(record);
            }
            Step::ReadAgain { partition, back } => {
                let state = model.entry(partition).or_default();
                let last = state.read.keys().next_back().copied();
                let offset = state.next - i64::from(back);
                if last.is_some_and(|last| offset <= last) {
                    let opened = ledger.open(partition, offset, 1, Instant::now());
                    prop_assert!(opened.is_none(), "{} was read twice", offset);
                }
            }
            Step::HandOut(which) => {
                let waiting: Vec<_> =
                    records.iter_mut().filter(|record| !record.handed_out).collect();
                if waiting.is_empty() {
                    continue;
                }
                let which = which.index(waiting.len());
                let Some(record) = waiting.into_iter().nth(which) else { continue };
                let state = &model[&record.partition];
                let current = state.assigned && state.epoch == record.epoch;
                let handed_out = ledger.hand_out(&record.assignment, record.bytes);
                prop_assert_eq!(handed_out.is_ok(), current);
                record.handed_out = true;
                // Outputs of even offsets are staged here, so some are staged long before their
                // record is settled.
                if record.offset % 2 == 0 {
                    ledger.stage(&record.assignment, record.offset, output(record.offset));
                    if current && with_outputs {
                        let state = model.get_mut(&record.partition).expect("the record was read");
                        state.stage(record.offset);
                    }
                }
                if !current {
                    record.handed_out = false;
                    let gone = (record.partition, record.offset);
                    records.retain(|record| (record.partition, record.offset) != gone);
                }
            }
            Step::Complete(which) | Step::Hold(which) => {
                let handed_out: Vec<usize> = records
                    .iter()
                    .enumerate()
                    .filter_map(|(number, record)| record.handed_out.then_some(number))
                    .collect();
                if handed_out.is_empty() {
                    continue;
                }
                let record = records.swap_remove(handed_out[which.index(handed_out.len())]);
                let state = model.get_mut(&record.partition).expect("the record was read");
                let current = state.assigned && state.epoch == record.epoch;
                if matches!(step, Step::Hold(_)) {
                    let held = ledger.hold(&record.assignment);
                    prop_assert_eq!(held.is_some(), current);
                    if let Some((held, moved)) = held {
                        state.held += 1;
                        prop_assert_eq!(held, state.held);
                        prop_assert!(moved.has_room, "the low-water mark has changed");
                    }
                    continue;
                }
                // Outputs of odd offsets are staged here. If the epoch is over, they are dropped.
                if record.offset % 2 == 1 {
                    ledger.stage(&record.assignment, record.offset, output(record.offset));
                    if current && with_outputs {
                        state.stage(record.offset);
                    }
                }
                let had_room = ledger.has_room();
                let done = ledger.complete(&record.assignment, record.slot, record.bytes);
                prop_assert_eq!(done.is_some(), current);
                if let Some(moved) = done {
                    prop_assert!(moved.answered && !moved.drains);
                    prop_assert!(moved.has_room || had_room || !ledger.has_room());
                    state.read.insert(record.offset, true);
                }
            }
            Step::Commit => {
                for assignment in ledger.assignments() {
                    let state =
                        model.get_mut(&assignment.partition).expect("the partition is assigned");
                    let before = state.committed;
                    if !with_outputs {
                        prop_assert_eq!(assignment.next_commit(), state.commit());
                        continue;
                    }
                    let ready = assignment.take_ready();
                    let position = state.commit();
                    prop_assert_eq!(ready.as_ref().map(|ready| ready.position), position);
                    let Some(ready) = ready else { continue };
                    // Each record between the last position and this one has its output written, in
                    // offset order.
                    let new = state.read.keys().copied().filter(|offset| {
                        Some(*offset) < position && before.is_none_or(|before| *offset >= before)
                    });
                    let written: Vec<_> = ready.outputs.iter().map(|(offset, _)| *offset).collect();
                    prop_assert_eq!(written, new.collect::<Vec<_>>());
                    let had_room = ledger.has_room();
                    let moved = ledger.mark_committed(&assignment, ready.position);
                    prop_assert!(moved.has_room || had_room || !ledger.has_room());
                    state.written = position;
                }
            }
            Step::CommitFails(partition) => {
                // With transactions, a failure ends the assignment instead.
                if let Some(assignment) = ledger.assignment(partition).filter(|_| !with_outputs) {
                    assignment.commit_failed();
                    model.entry(partition).or_default().committed = None;
                }
            }
        }
        let assigned = model.values().filter(|state| state.assigned);
        let (records_in_flight, bytes) = assigned
            .map(|state| state.load(with_outputs))
            .fold((0, 0), |(records, bytes), (more, size)| (records + more, bytes + size));
        let in_flight = InFlight { records: records_in_flight, bytes };
        prop_assert_eq!(ledger.in_flight(), in_flight);
        prop_assert_eq!(ledger.is_full(), records_in_flight >= LIMIT || bytes >= LIMIT_BYTES);
        let held: usize =
            model.values().filter(|state| state.assigned).map(|state| state.held).sum();
        prop_assert_eq!(ledger.held(), held);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn offsets_are_tracked_without_transactions(steps in steps()) {
        check(steps, Commits::Alone)?;
    }

    #[test]
    fn offsets_are_tracked_with_transactions(steps in steps()) {
        check(steps, Commits::WithOutputs)?;
    }
}

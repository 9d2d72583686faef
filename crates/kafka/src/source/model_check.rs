//! The offset tracking of a whole source against a model that is too simple to be wrong: records are read, handed out,
//! resolved and failed in any order, while partitions come and go and commits fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::time::Instant;

use super::assignment::Assignment;
use super::offsets::Slot;
use super::shared::Shared;
use super::staged::Output;
use crate::sink::{Reply, ReplyTarget};
use crate::{Delivery, SourceConfig, TransactionSettings};

const PARTITIONS: i32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Revoke(i32),
    Read {
        partition: i32,
        gap: u8,
        bytes: u8,
    },
    /// librdkafka gives a record again that it gave before.
    ReadAgain {
        partition: i32,
        back: u8,
    },
    Take(prop::sample::Index),
    Resolve(prop::sample::Index),
    Hold(prop::sample::Index),
    /// Commits what can be; or, with outputs, makes a transaction.
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
        8 => any::<prop::sample::Index>().prop_map(Step::Take),
        8 => any::<prop::sample::Index>().prop_map(Step::Resolve),
        1 => any::<prop::sample::Index>().prop_map(Step::Hold),
        4 => Just(Step::Commit),
        1 => partition.prop_map(Step::CommitFails),
    ];
    prop::collection::vec(step, 0..300)
}

/// A record that was read, on both sides.
struct Record {
    partition: i32,
    epoch: u32,
    offset: i64,
    bytes: usize,
    taken: bool,
    assignment: Arc<Assignment>,
    slot: Slot,
}

/// A partition as the model has it.
#[derive(Default)]
struct Partition {
    epoch: u32,
    assigned: bool,
    // All that were read in this epoch, and whether each is resolved; `false` also where it is held.
    read: BTreeMap<i64, bool>,
    sizes: BTreeMap<i64, usize>,
    held: usize,
    // What was last committed, unless that failed.
    committed: Option<i64>,
    // What a transaction has committed.
    written: Option<i64>,
    next: i64,
}

impl Partition {
    fn position(&self) -> Option<i64> {
        let unresolved = self.read.iter().find(|(_, resolved)| !**resolved).map(|(at, _)| *at);
        unresolved.or_else(|| self.read.keys().next_back().map(|last| last + 1))
    }

    /// What a commit takes now.
    fn commit(&mut self) -> Option<i64> {
        let (position, first) = (self.position()?, *self.read.keys().next()?);
        let moved = position > self.committed.unwrap_or(first);
        moved.then(|| *self.committed.insert(position))
    }

    /// An output is kept for the record.
    fn stage(&mut self, offset: i64) {
        *self.sizes.entry(offset).or_default() += output(offset).weight();
    }

    /// Records and bytes in flight.
    fn load(&self, with_outputs: bool) -> (usize, usize) {
        let unresolved = self.read.values().filter(|resolved| !**resolved).count();
        // With outputs, what a record and its outputs weigh counts until it is committed.
        let counts = |offset: &i64, resolved: bool| match self.written {
            _ if !with_outputs => !resolved,
            written => written.is_none_or(|written| *offset >= written),
        };
        let counted = self.read.iter().filter(|(offset, resolved)| counts(offset, **resolved));
        (unresolved, counted.map(|(offset, _)| self.sizes[offset]).sum())
    }
}

fn output(offset: i64) -> Output {
    let reply = Reply { value: Some(offset.to_string().into()), ..Reply::default() };
    let place = ReplyTarget { topic: "replies".into(), partition: None, asked: false };
    Output { place, reply, traceparent: None, meta: Arc::default() }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm for each step, which are told best side by side"
)]
fn check(steps: Vec<Step>, delivery: Delivery) -> Result<(), TestCaseError> {
    let with_outputs = delivery != Delivery::AtLeastOnce;
    let mut config = SourceConfig::new("localhost:9092", "requests", "group");
    config.delivery = delivery;
    let shared = Shared::new(&config);
    let mut model: BTreeMap<i32, Partition> = BTreeMap::new();
    let mut records: Vec<Record> = Vec::new();
    for step in steps {
        match step {
            Step::Assign(partition) => {
                let of = model.entry(partition).or_default();
                if !of.assigned {
                    shared.assign_anew(partition);
                    *of = Partition {
                        epoch: of.epoch + 1,
                        assigned: true,
                        next: of.next,
                        ..Partition::default()
                    };
                }
            }
            Step::Revoke(partition) => {
                let of = model.entry(partition).or_default();
                let ended = shared.revoke(&[partition]);
                prop_assert_eq!(ended.len(), usize::from(of.assigned));
                if of.assigned {
                    // The last commit is given again, for the one before may still fail.
                    of.committed = None;
                    prop_assert_eq!(ended[0].1.commit, of.commit());
                    prop_assert_eq!(ended[0].1.held, of.held);
                }
                of.assigned = false;
                of.read.clear();
            }
            Step::Read { partition, gap, bytes } => {
                let of = model.entry(partition).or_default();
                let (offset, bytes) = (of.next + i64::from(gap), usize::from(bytes));
                let opened = shared.open(partition, offset, bytes, Instant::now());
                prop_assert_eq!(opened.is_some(), of.assigned);
                let Some((assignment, slot)) = opened else { continue };
                of.next = offset + 1;
                of.read.insert(offset, false);
                of.sizes.insert(offset, bytes);
                let (epoch, taken) = (of.epoch, false);
                let record = Record { partition, epoch, offset, bytes, taken, assignment, slot };
                records.push(record);
            }
            Step::ReadAgain { partition, back } => {
                let of = model.entry(partition).or_default();
                let last = of.read.keys().next_back().copied();
                let offset = of.next - i64::from(back);
                if last.is_some_and(|last| offset <= last) {
                    let opened = shared.open(partition, offset, 1, Instant::now());
                    prop_assert!(opened.is_none(), "{} was read twice", offset);
                }
            }
            Step::Take(which) => {
                let waiting: Vec<_> = records.iter_mut().filter(|record| !record.taken).collect();
                if waiting.is_empty() {
                    continue;
                }
                let which = which.index(waiting.len());
                let Some(record) = waiting.into_iter().nth(which) else { continue };
                let of = &model[&record.partition];
                let current = of.assigned && of.epoch == record.epoch;
                prop_assert_eq!(record.assignment.take(record.bytes).is_ok(), current);
                record.taken = true;
                // Some outputs are there long before all work on their input is over.
                if record.offset % 2 == 0 {
                    shared.stage(&record.assignment, record.offset, output(record.offset));
                    if current && with_outputs {
                        let of = model.get_mut(&record.partition).expect("it was read");
                        of.stage(record.offset);
                    }
                }
                if !current {
                    record.taken = false;
                    let gone = (record.partition, record.offset);
                    records.retain(|record| (record.partition, record.offset) != gone);
                }
            }
            Step::Resolve(which) | Step::Hold(which) => {
                let taken: Vec<usize> = records
                    .iter()
                    .enumerate()
                    .filter_map(|(number, record)| record.taken.then_some(number))
                    .collect();
                if taken.is_empty() {
                    continue;
                }
                let record = records.swap_remove(taken[which.index(taken.len())]);
                let of = model.get_mut(&record.partition).expect("it was read");
                let current = of.assigned && of.epoch == record.epoch;
                if matches!(step, Step::Hold(_)) {
                    let held = record.assignment.hold();
                    prop_assert_eq!(held.is_some(), current);
                    if current {
                        shared.held();
                        of.held += 1;
                    }
                    continue;
                }
                // Late outputs of an old epoch are dropped with it.
                if record.offset % 2 == 1 {
                    shared.stage(&record.assignment, record.offset, output(record.offset));
                    if current && with_outputs {
                        of.stage(record.offset);
                    }
                }
                let resolved = record.assignment.resolve(record.slot, record.bytes);
                prop_assert_eq!(resolved.is_some(), current);
                if let Some(load) = resolved {
                    shared.answered(load);
                    of.read.insert(record.offset, true);
                }
            }
            Step::Commit => {
                for assignment in shared.assignments() {
                    let of = model.get_mut(&assignment.partition).expect("it is assigned");
                    let before = of.committed;
                    if !with_outputs {
                        prop_assert_eq!(assignment.next_commit(), of.commit());
                        continue;
                    }
                    let ready = assignment.take_ready();
                    let position = of.commit();
                    prop_assert_eq!(ready.as_ref().map(|ready| ready.position), position);
                    let Some(ready) = ready else { continue };
                    // Exactly what lies between the last position and this one, in its order.
                    let new = of.read.keys().copied().filter(|offset| {
                        Some(*offset) < position && before.is_none_or(|before| *offset >= before)
                    });
                    let written: Vec<_> = ready.outputs.iter().map(|(offset, _)| *offset).collect();
                    prop_assert_eq!(written, new.collect::<Vec<_>>());
                    shared.resolved(assignment.written(ready.position));
                    of.written = position;
                }
            }
            Step::CommitFails(partition) => {
                // A transaction that fails ends the assignment instead.
                if let Some(assignment) = shared.assignment(partition).filter(|_| !with_outputs) {
                    assignment.commit_failed();
                    model.entry(partition).or_default().committed = None;
                }
            }
        }
        let assigned = model.values().filter(|of| of.assigned);
        let (records_in_flight, bytes) = assigned
            .map(|of| of.load(with_outputs))
            .fold((0, 0), |(records, bytes), (more, size)| (records + more, bytes + size));
        let stats = shared.stats();
        prop_assert_eq!((stats.in_flight, stats.in_flight_bytes), (records_in_flight, bytes));
        let held: usize = model.values().filter(|of| of.assigned).map(|of| of.held).sum();
        prop_assert_eq!(stats.held, held);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn offsets_alone(steps in steps()) {
        check(steps, Delivery::AtLeastOnce)?;
    }

    #[test]
    fn offsets_with_their_outputs(steps in steps()) {
        check(steps, Delivery::ExactlyOnce(TransactionSettings::default()))?;
    }
}

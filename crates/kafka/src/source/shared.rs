//! What the poll thread, the stream, the receipts and the handle of one source have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::assignment::{Assignment, AssignmentEnd, Commits};
use super::in_flight::{InFlight, TotalLoad};
use super::staged::Output;
use super::transactions::Transactions;
use super::{Oldest, Stats};
use crate::config::{OnUnanswered, SourceConfig};
use crate::{Delivery, Error};

pub(crate) struct Shared {
    pub(super) topic: Arc<str>,
    limit: InFlight,
    commits: Commits,
    on_unanswered: OnUnanswered,
    assignments: Mutex<HashMap<i32, Arc<Assignment>>>,
    // The first offset read of each partition whose assignment ended.
    began: Mutex<HashMap<i32, i64>>,
    // Records open in all assignments together, and those of them that are held.
    in_flight: TotalLoad,
    held: AtomicUsize,
    // Partitions that the group has asked for and that are not given back yet.
    handing_over: AtomicUsize,
    // While something waits for outcomes, each of them wakes the poll thread.
    draining: AtomicBool,
    poller: OnceLock<Thread>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    pub(super) failure_added: Notify,
    closing: Mutex<Option<Instant>>,
    // The last commit is made.
    leaving: AtomicBool,
    // The poll thread is to look after partitions that hand out nothing more.
    halted: AtomicBool,
    transactions: OnceLock<Weak<Transactions>>,
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(config: &SourceConfig) -> Self {
        Self {
            topic: config.topic.as_str().into(),
            limit: InFlight {
                records: config.max_in_flight.get(),
                bytes: config.max_in_flight_bytes.get(),
            },
            commits: match config.delivery {
                Delivery::AtLeastOnce => Commits::Alone,
                Delivery::ExactlyOnce(_) => Commits::WithOutputs,
            },
            on_unanswered: config.on_unanswered,
            assignments: Mutex::default(),
            began: Mutex::default(),
            in_flight: TotalLoad::default(),
            held: AtomicUsize::new(0),
            handing_over: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            poller: OnceLock::new(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            failure_added: Notify::new(),
            closing: Mutex::new(None),
            leaving: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            transactions: OnceLock::new(),
        }
    }

    // The poll thread, which sleeps by parking.

    pub(super) fn poll_here(&self) {
        self.poller.set(thread::current()).ok();
    }

    pub(crate) fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    // What is in flight.

    /// Counts a record that has been read, and returns its assignment; `None` if its partition is not assigned.
    pub(super) fn open(
        &self,
        partition: i32,
        offset: i64,
        bytes: usize,
        now: Instant,
    ) -> Option<(Arc<Assignment>, usize)> {
        let assignment = Arc::clone(lock(&self.assignments).get(&partition)?);
        let slot = assignment.open(offset, bytes, now)?;
        self.in_flight.add(InFlight::of_one(bytes));
        Some((assignment, slot))
    }

    /// A record may be larger than all that may be in flight; then it is in flight alone.
    pub(super) fn is_full(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight.get();
        records >= self.limit.records || bytes >= self.limit.bytes
    }

    /// Whether enough has been resolved to read again. Held records keep their places, so they do not count here.
    pub(super) fn has_room(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight.get();
        let low = self.low_water();
        records <= low.records && bytes <= low.bytes
    }

    /// Where a source that was full reads again: low enough that it reads some records at once, and high enough that
    /// the pipeline has others meanwhile.
    fn low_water(&self) -> InFlight {
        let InFlight { records: most, bytes } = self.limit;
        let held = self.held.load(Ordering::Acquire).min(most);
        let records = match most - (most - held).div_ceil(4) {
            // Not one place is free: every record is held.
            low if low >= most => most - 1,
            low => low,
        };
        InFlight { records, bytes: bytes - bytes.div_ceil(4) }
    }

    /// Whether a transaction that weighs so much leaves too little room to wait for more.
    pub(super) fn waits_for(&self, bytes: usize) -> bool {
        bytes >= self.limit.bytes / 2
    }

    /// Keeps an answer for the transaction that commits its record.
    pub(super) fn stage(&self, assignment: &Assignment, offset: i64, output: Output) {
        self.in_flight.add(assignment.stage(offset, output));
    }

    /// An input has been answered.
    pub(super) fn answered(&self, load: InFlight) {
        self.resolved(load);
        if let Some(transactions) = self.transactions.get().and_then(Weak::upgrade) {
            transactions.wake();
        }
    }

    pub(super) fn write_with(&self, transactions: &Arc<Transactions>) {
        self.transactions.set(Arc::downgrade(transactions)).ok();
    }

    /// Something is in flight no longer.
    pub(super) fn resolved(&self, load: InFlight) {
        let before = self.in_flight.remove(load);
        let low = self.low_water();
        let fell = |before: usize, by: usize, mark: usize| {
            before > mark && before.saturating_sub(by) <= mark
        };
        if fell(before.records, load.records, low.records)
            || fell(before.bytes, load.bytes, low.bytes)
            || self.draining.load(Ordering::Acquire)
        {
            self.wake();
        }
    }

    /// A record will not be answered.
    pub(super) fn held(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
        // The low-water mark has moved.
        self.wake();
    }

    // Assignments.

    /// The group has given this member a partition.
    pub(super) fn assign_anew(&self, partition: i32) {
        lock(&self.began).remove(&partition);
        self.assign(partition);
    }

    /// The first offset read of a partition since the group has given it.
    pub(super) fn began(&self, partition: i32) -> Option<i64> {
        lock(&self.began).get(&partition).copied()
    }

    pub(super) fn assign(&self, partition: i32) {
        let assignment = Arc::new(Assignment::new(partition, self.commits));
        lock(&self.assignments).insert(partition, assignment);
    }

    /// Ends the assignments of these partitions, and returns what may be committed of each.
    pub(super) fn revoke(&self, partitions: &[i32]) -> Vec<(i32, AssignmentEnd)> {
        let mut assignments = lock(&self.assignments);
        let ended = partitions.iter().filter_map(|partition| {
            let assignment = assignments.remove(partition)?;
            if let Some(began) = assignment.began() {
                lock(&self.began).entry(*partition).or_insert(began);
            }
            let remains = assignment.fence();
            self.in_flight.remove(remains.load);
            self.held.fetch_sub(remains.held, Ordering::AcqRel);
            Some((*partition, remains))
        });
        ended.collect()
    }

    pub(super) fn assigned(&self) -> Vec<i32> {
        lock(&self.assignments).keys().copied().collect()
    }

    pub(super) fn assignments(&self) -> Vec<Arc<Assignment>> {
        lock(&self.assignments).values().cloned().collect()
    }

    pub(super) fn assignment(&self, partition: i32) -> Option<Arc<Assignment>> {
        lock(&self.assignments).get(&partition).cloned()
    }

    /// Hands out nothing more of these partitions, and has every outcome wake the poll thread until
    /// [`drained`](Self::drained) is told that nobody waits any more.
    pub(super) fn drain(&self, partitions: &[i32]) {
        self.draining.store(true, Ordering::SeqCst);
        for assignment in partitions.iter().filter_map(|partition| self.assignment(*partition)) {
            assignment.close();
        }
    }

    /// Whether everything that was handed out of these partitions has come to an outcome.
    pub(super) fn is_drained(&self, partitions: &[i32]) -> bool {
        let assignments = lock(&self.assignments);
        let assignments = partitions.iter().filter_map(|partition| assignments.get(partition));
        assignments.into_iter().all(|assignment| assignment.taken() == 0)
    }

    pub(super) fn drained(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_handing_over(&self, partitions: usize) {
        self.handing_over.store(partitions, Ordering::Release);
    }

    /// How many records were handed out and have come to no outcome.
    pub(super) fn taken(&self) -> usize {
        lock(&self.assignments).values().map(|assignment| assignment.taken()).sum()
    }

    // The end.

    /// Ends the source with an error; the first one counts.
    pub(super) fn fail(&self, error: Error) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            *lock(&self.failure) = Some(error);
            self.failure_added.notify_one();
        }
        self.wake();
    }

    /// A record's failure was answered by nothing. The source goes past it in no case.
    pub(super) fn unanswered(&self, assignment: &Assignment, origin: Origin, failure: Failure) {
        match self.on_unanswered {
            OnUnanswered::Stop => {
                self.fail(Error::Unanswered { origin, failure: Box::new(failure) });
            }
            OnUnanswered::HaltPartition => {
                if assignment.is_open() {
                    tracing::error!(%origin, %failure, "nothing answered this failure: its partition halts here");
                }
                assignment.close();
                self.halted.store(true, Ordering::Release);
                self.wake();
            }
        }
    }

    /// Whether a partition has halted since the last call.
    pub(super) fn take_halted(&self) -> bool {
        self.halted.swap(false, Ordering::AcqRel)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The error that ended the source, for the first who asks.
    pub(super) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Asks the poll thread to end, at once or when everything in flight is resolved before `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        *lock(&self.closing) = Some(deadline);
        self.wake();
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether there is nothing left to commit.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(super) fn closing(&self) -> Option<Instant> {
        *lock(&self.closing)
    }

    pub(super) fn stats(&self) -> Stats {
        let oldest = lock(&self.assignments)
            .values()
            .filter_map(|assignment| Some((assignment.partition, assignment.oldest()?)))
            .min_by_key(|(_, head)| head.since)
            .map(|(partition, head)| Oldest {
                origin: self.origin(partition, head.offset),
                age: head.since.elapsed(),
            });
        let InFlight { records, bytes } = self.in_flight.get();
        Stats {
            in_flight: records,
            in_flight_bytes: bytes,
            held: self.held.load(Ordering::Acquire),
            handing_over: self.handing_over.load(Ordering::Acquire),
            oldest,
        }
    }

    pub(super) fn origin(&self, partition: i32, offset: i64) -> Origin {
        Origin {
            source: Arc::clone(&self.topic),
            partition: Some(partition),
            position: offset.unsigned_abs(),
        }
    }
}

/// The instant after `duration`, however long that is.
pub(super) fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    Instant::now() + duration.min(FAR)
}

/// The longest that the poll thread sleeps: everything that has to wake it does so, this is only how late it would be
/// if a wake-up were lost, and far below `max.poll.interval.ms`.
pub(super) const BACKSTOP: Duration = Duration::from_millis(100);

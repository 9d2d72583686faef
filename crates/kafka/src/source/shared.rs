//! State that the poll thread, the stream, the receipts and the handle of one source share.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::assignment::{Assignment, AssignmentEnd, Commits};
use super::in_flight::{InFlight, TotalLoad};
use super::staged::Output;
use super::wake::Wake;
use super::{Oldest, Stats};
use crate::config::{OnUnanswered, SourceConfig};
use crate::{Delivery, Error};

pub(crate) struct Shared {
    pub(super) topic: Arc<str>,
    limit: InFlight,
    commits: Commits,
    on_unanswered: OnUnanswered,
    assignments: Mutex<HashMap<i32, Arc<Assignment>>>,
    // For each partition, the first offset that was read since the group assigned it. Added when an
    // `Assignment` of the partition ends: after a failed transaction, the next one begins at this
    // offset if nothing is committed.
    first_read: Mutex<HashMap<i32, i64>>,
    // The records in flight in all assignments.
    in_flight: TotalLoad,
    // Number of records in all assignments that failed or were abandoned.
    held: AtomicUsize,
    // Number of partitions that are revoked and not given back yet.
    handing_over: AtomicUsize,
    // Set while a drain waits for outcomes: each outcome then wakes the poll thread.
    draining: AtomicBool,
    poller: OnceLock<Thread>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    pub(super) failure_added: Notify,
    closing: Mutex<Option<Instant>>,
    // Set once the last commit is made.
    leaving: AtomicBool,
    // Set when a partition halts; reset when the poll thread pauses it.
    halted: AtomicBool,
    /// Wakes the thread that writes transactions, if there is one.
    pub(super) writer: Arc<Wake>,
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
            first_read: Mutex::default(),
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
            writer: Arc::default(),
        }
    }

    // Waking the poll thread, which sleeps by parking.

    pub(super) fn register_poller(&self) {
        self.poller.set(thread::current()).ok();
    }

    pub(crate) fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    // Records in flight.

    /// Counts a record that has been read as in flight. Returns its assignment and slot, or `None`
    /// if the partition is not assigned or the record was read before.
    pub(super) fn open(
        &self,
        partition: i32,
        offset: i64,
        bytes: usize,
        now: Instant,
    ) -> Option<(Arc<Assignment>, usize)> {
        let assignment = Arc::clone(self.assignments.lock().get(&partition)?);
        let slot = assignment.open(offset, bytes, now)?;
        self.in_flight.add(InFlight::of_one(bytes));
        Some((assignment, slot))
    }

    /// Whether a limit is reached, so that no other record may be read. The last record that was
    /// read may exceed the limit of bytes.
    pub(super) fn is_full(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight.get();
        records >= self.limit.records || bytes >= self.limit.bytes
    }

    /// Whether enough records are settled to read again.
    pub(super) fn has_room(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight.get();
        let low = self.low_water();
        records <= low.records && bytes <= low.bytes
    }

    /// Returns the load at which a full source reads again. A quarter of the records that are not
    /// held has to be settled first: that is enough to read several records at once, and leaves the
    /// pipeline enough to do meanwhile.
    fn low_water(&self) -> InFlight {
        let InFlight { records: most, bytes } = self.limit;
        // Pairs with the read-modify-writes in `count_held` and `revoke`.
        let held = self.held.load(Ordering::Acquire).min(most);
        let records = match most - (most - held).div_ceil(4) {
            // Every record in flight is held, so the source stays full.
            low if low >= most => most - 1,
            low => low,
        };
        InFlight { records, bytes: bytes - bytes.div_ceil(4) }
    }

    /// Whether a transaction of `bytes` bytes has to be committed before its interval has passed,
    /// because it leaves too little room for other records.
    pub(super) fn must_commit(&self, bytes: usize) -> bool {
        bytes >= self.limit.bytes / 2
    }

    /// Keeps a reply for the transaction that commits its record.
    pub(super) fn stage(&self, assignment: &Assignment, offset: i64, output: Output) {
        self.in_flight.add(assignment.stage(offset, output));
    }

    /// Releases the load of a record that is done, and wakes the transactions' worker.
    pub(super) fn complete(&self, load: InFlight) {
        self.release(load);
        self.writer.wake();
    }

    /// Subtracts a load that is no longer in flight. Wakes the poll thread if the load fell to the
    /// low-water mark, or if a drain waits for outcomes.
    pub(super) fn release(&self, load: InFlight) {
        let before = self.in_flight.remove(load);
        let low = self.low_water();
        // The load of `draining` below pairs with the store in `drain`, see there.
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

    /// Counts a record that failed or was abandoned.
    pub(super) fn count_held(&self) {
        // Pairs with the loads in `low_water` and `stats`.
        self.held.fetch_add(1, Ordering::AcqRel);
        // The low-water mark depends on the number of held records.
        self.wake();
    }

    // Assignments.

    /// Begins an assignment of a partition that the group has assigned to this member.
    pub(super) fn assign_anew(&self, partition: i32) {
        self.first_read.lock().remove(&partition);
        self.assign(partition);
    }

    /// Returns the first offset that was read of a partition since the group assigned it. `None`
    /// until an assignment since then has ended.
    pub(super) fn first_read(&self, partition: i32) -> Option<i64> {
        self.first_read.lock().get(&partition).copied()
    }

    /// Begins an assignment of a partition that this member owns already.
    pub(super) fn assign(&self, partition: i32) {
        let assignment = Arc::new(Assignment::new(partition, self.commits));
        self.assignments.lock().insert(partition, assignment);
    }

    /// Ends the assignments of these partitions, and returns their final states.
    pub(super) fn revoke(&self, partitions: &[i32]) -> Vec<(i32, AssignmentEnd)> {
        let mut assignments = self.assignments.lock();
        let ended = partitions.iter().filter_map(|partition| {
            let assignment = assignments.remove(partition)?;
            if let Some(first_read) = assignment.first_read() {
                self.first_read.lock().entry(*partition).or_insert(first_read);
            }
            let end = assignment.fence();
            self.in_flight.remove(end.load);
            // Pairs with the loads in `low_water` and `stats`.
            self.held.fetch_sub(end.held, Ordering::AcqRel);
            Some((*partition, end))
        });
        ended.collect()
    }

    pub(super) fn assigned(&self) -> Vec<i32> {
        self.assignments.lock().keys().copied().collect()
    }

    pub(super) fn assignments(&self) -> Vec<Arc<Assignment>> {
        self.assignments.lock().values().cloned().collect()
    }

    pub(super) fn assignment(&self, partition: i32) -> Option<Arc<Assignment>> {
        self.assignments.lock().get(&partition).cloned()
    }

    /// Stops handing out records of these partitions, and has every outcome wake the poll thread
    /// until [`end_drain`](Self::end_drain).
    pub(super) fn drain(&self, partitions: &[i32]) {
        // Pairs with the load in `release`. After this store, `is_drained` locks each assignment.
        // Before that load, `Assignment::complete` locks the assignment of its record. So either
        // `is_drained` sees the outcome, or `release` sees `true` and wakes the poll thread.
        self.draining.store(true, Ordering::SeqCst);
        for assignment in partitions.iter().filter_map(|partition| self.assignment(*partition)) {
            assignment.close();
        }
    }

    /// Whether all records that were handed out of these partitions are settled.
    pub(super) fn is_drained(&self, partitions: &[i32]) -> bool {
        let assignments = self.assignments.lock();
        let assignments = partitions.iter().filter_map(|partition| assignments.get(partition));
        assignments.into_iter().all(|assignment| assignment.handed_out() == 0)
    }

    pub(super) fn end_drain(&self) {
        // Pairs with the load in `release`. A wake-up too many does no harm.
        self.draining.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_handing_over(&self, partitions: usize) {
        // Pairs with the load in `stats`.
        self.handing_over.store(partitions, Ordering::Release);
    }

    /// Returns the number of records that were handed out and are not settled.
    pub(super) fn handed_out(&self) -> usize {
        self.assignments.lock().values().map(|assignment| assignment.handed_out()).sum()
    }

    // Ending.

    /// Ends the source with an error. Only the first error counts.
    pub(super) fn fail(&self, error: Error) {
        // The lock is held until the error is stored, so a thread that sees `failed` and then takes
        // the error finds it. Pairs with the load in `has_failed`.
        let mut failure = self.failure.lock();
        if !self.failed.swap(true, Ordering::AcqRel) {
            *failure = Some(error);
            self.failure_added.notify_one();
        }
        drop(failure);
        self.wake();
    }

    /// Handles the failure of a record that nothing in the pipeline answered. Its offset is never
    /// committed.
    pub(super) fn unanswered(&self, assignment: &Assignment, origin: Origin, failure: Failure) {
        match self.on_unanswered {
            OnUnanswered::Stop => {
                self.fail(Error::Unanswered { origin, failure: Box::new(failure) });
            }
            OnUnanswered::HaltPartition => {
                if assignment.is_open() {
                    tracing::error!(%origin, %failure, "nothing in the pipeline answered this failure: the partition halts at this record");
                }
                assignment.close();
                // Pairs with the swap in `take_halted`: a poll thread that sees `true` also sees
                // the assignment closed.
                self.halted.store(true, Ordering::Release);
                self.wake();
            }
        }
    }

    /// Whether a partition has halted since the last call.
    pub(super) fn take_halted(&self) -> bool {
        // Pairs with the store in `unanswered`.
        self.halted.swap(false, Ordering::AcqRel)
    }

    pub(super) fn has_failed(&self) -> bool {
        // Pairs with the swap in `fail`.
        self.failed.load(Ordering::Acquire)
    }

    /// Takes the error that ended the source. Later calls return `None`.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Asks the poll thread to end when all records that were handed out are settled, at `deadline`
    /// at the latest.
    pub(super) fn close(&self, deadline: Instant) {
        *self.closing.lock() = Some(deadline);
        self.wake();
    }

    pub(super) fn leave(&self) {
        // Pairs with the load in `is_leaving`, which the rebalance callback makes on the thread
        // that drops the consumer.
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether the last commit is made.
    pub(super) fn is_leaving(&self) -> bool {
        // Pairs with the store in `leave`.
        self.leaving.load(Ordering::Acquire)
    }

    pub(super) fn closing(&self) -> Option<Instant> {
        *self.closing.lock()
    }

    pub(super) fn stats(&self) -> Stats {
        let oldest = self
            .assignments
            .lock()
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
            // Pairs with the read-modify-writes in `count_held` and `revoke`.
            held: self.held.load(Ordering::Acquire),
            // Pairs with the store in `set_handing_over`.
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

/// Returns the instant `duration` from now, or a year from now if that is sooner, so that the
/// addition cannot overflow.
pub(super) fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    Instant::now() + duration.min(FAR)
}

/// The longest time that the poll thread sleeps. Every event that concerns the thread also wakes
/// it, so this only bounds the delay if a wake-up were lost. It is far below
/// `max.poll.interval.ms`.
pub(super) const BACKSTOP: Duration = Duration::from_millis(100);

//! `Ledger`: what is in flight.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::assignment::{Assignment, AssignmentEnd, Commits};
use super::in_flight::{InFlight, TotalLoad};
use super::offsets::{Head, Slot};
use super::staged::Output;

/// The records in flight of all assignments. Knows no thread, no client and no error: a method that
/// settles records returns what [`Moved`], and the caller wakes the threads that wait for it.
pub(super) struct Ledger {
    limit: InFlight,
    commits: Commits,
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
    // Set while a drain waits for outcomes.
    draining: AtomicBool,
}

/// The effect of a settled record on the whole source.
#[must_use = "the threads that wait for this have to be woken"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// The load fell to the low-water mark, or the mark itself changed.
    pub(super) has_room: bool,
    /// A drain waits for outcomes.
    pub(super) drains: bool,
    /// A record was answered, so there may be more to commit.
    pub(super) answered: bool,
}

impl Ledger {
    pub(super) fn new(limit: InFlight, commits: Commits) -> Self {
        Self {
            limit,
            commits,
            assignments: Mutex::default(),
            first_read: Mutex::default(),
            in_flight: TotalLoad::default(),
            held: AtomicUsize::new(0),
            handing_over: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    // Records.

    /// Counts a record that has been read as in flight. Returns its assignment and slot, or `None`
    /// if the partition is not assigned or the record was read before.
    pub(super) fn open(
        &self,
        partition: i32,
        offset: i64,
        bytes: usize,
        now: Instant,
    ) -> Option<(Arc<Assignment>, Slot)> {
        let assignment = self.assignment(partition)?;
        let slot = assignment.open(offset, bytes, now)?;
        self.in_flight.add(InFlight::of_one(bytes));
        Some((assignment, slot))
    }

    /// Marks a record as handed out. If the result is `Err`, it must not be handed out.
    pub(super) fn hand_out(&self, assignment: &Assignment, bytes: usize) -> Result<(), Moved> {
        assignment.hand_out(bytes).map_err(|load| self.release(load))
    }

    /// Settles a record as done. Returns `None` if its assignment has ended.
    pub(super) fn complete(
        &self,
        assignment: &Assignment,
        slot: Slot,
        bytes: usize,
    ) -> Option<Moved> {
        let load = assignment.complete(slot, bytes)?;
        Some(Moved { answered: true, ..self.release(load) })
    }

    /// Settles a record as failed or abandoned. Also returns the number of records that the
    /// assignment holds; `None` if the assignment has ended.
    pub(super) fn hold(&self, assignment: &Assignment) -> Option<(usize, Moved)> {
        let held = assignment.hold()?;
        // Pairs with the loads in `low_water` and `held`.
        self.held.fetch_add(1, Ordering::AcqRel);
        // The low-water mark depends on the number of held records, and a drain waits for held
        // records too.
        Some((held, Moved { has_room: true, drains: self.is_draining(), answered: false }))
    }

    /// Keeps a reply for the transaction that commits its record.
    pub(super) fn stage(&self, assignment: &Assignment, offset: i64, output: Output) {
        self.in_flight.add(assignment.stage(offset, output));
    }

    /// Notes that a transaction committed the position of an assignment.
    pub(super) fn mark_committed(&self, assignment: &Assignment, position: i64) -> Moved {
        self.release(assignment.mark_committed(position))
    }

    /// Subtracts a load that is no longer in flight.
    fn release(&self, load: InFlight) -> Moved {
        let before = self.in_flight.remove(load);
        let low = self.low_water();
        let fell = |before: usize, by: usize, mark: usize| {
            before > mark && before.saturating_sub(by) <= mark
        };
        let has_room = fell(before.records, load.records, low.records)
            || fell(before.bytes, load.bytes, low.bytes);
        Moved { has_room, drains: self.is_draining(), answered: false }
    }

    // The load.

    /// Whether a limit is reached, so that no other record may be read. The last record that was
    /// read may exceed the limit of bytes.
    pub(super) fn is_full(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight();
        records >= self.limit.records || bytes >= self.limit.bytes
    }

    /// Whether enough records are settled to read again.
    pub(super) fn has_room(&self) -> bool {
        let InFlight { records, bytes } = self.in_flight();
        let low = self.low_water();
        records <= low.records && bytes <= low.bytes
    }

    /// Returns the load at which a full source reads again. A quarter of the records that are not
    /// held has to be settled first: that is enough to read several records at once, and leaves the
    /// pipeline enough to do meanwhile.
    fn low_water(&self) -> InFlight {
        let InFlight { records: most, bytes } = self.limit;
        let held = self.held().min(most);
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

    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.get()
    }

    /// Returns the number of records that failed or were abandoned.
    pub(super) fn held(&self) -> usize {
        // Pairs with the read-modify-writes in `hold` and `revoke`.
        self.held.load(Ordering::Acquire)
    }

    /// Returns the number of records that were handed out and are not settled.
    pub(super) fn handed_out(&self) -> usize {
        self.assignments.lock().values().map(|assignment| assignment.handed_out()).sum()
    }

    /// Returns the pending record that was read first, and its partition.
    pub(super) fn oldest(&self) -> Option<(i32, Head)> {
        let assignments = self.assignments.lock();
        let heads = assignments.values().filter_map(|one| Some((one.partition, one.oldest()?)));
        heads.min_by_key(|(_, head)| head.since)
    }

    // Assignments.

    /// Begins an assignment of a partition that the group has assigned to this member.
    pub(super) fn assign_anew(&self, partition: i32) {
        self.first_read.lock().remove(&partition);
        self.assign(partition);
    }

    /// Begins an assignment of a partition that this member owns already.
    pub(super) fn assign(&self, partition: i32) {
        let assignment = Arc::new(Assignment::new(partition, self.commits));
        self.assignments.lock().insert(partition, assignment);
    }

    /// Returns the first offset that was read of a partition since the group assigned it. `None`
    /// until an assignment since then has ended.
    pub(super) fn first_read(&self, partition: i32) -> Option<i64> {
        self.first_read.lock().get(&partition).copied()
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
            // Pairs with the load in `held`.
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

    // Drains.

    /// Stops handing out records of these partitions, and has every outcome tell that a drain waits
    /// for it until [`end_drain`](Self::end_drain).
    pub(super) fn drain(&self, partitions: &[i32]) {
        // Pairs with the load in `is_draining`. After this store, `is_drained` locks each
        // assignment. Before that load, `Assignment::complete` or `Assignment::hold` locks the
        // assignment of its record. So either `is_drained` sees the outcome, or `is_draining`
        // returns `true` and the poll thread is woken.
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
        // Pairs with the load in `is_draining`. A wake-up too many does no harm.
        self.draining.store(false, Ordering::SeqCst);
    }

    fn is_draining(&self) -> bool {
        // Pairs with the store in `drain`, see there.
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn set_handing_over(&self, partitions: usize) {
        // Pairs with the load in `handing_over`.
        self.handing_over.store(partitions, Ordering::Release);
    }

    /// Returns the number of partitions that are revoked and not given back yet.
    pub(super) fn handing_over(&self) -> usize {
        // Pairs with the store in `set_handing_over`.
        self.handing_over.load(Ordering::Acquire)
    }
}

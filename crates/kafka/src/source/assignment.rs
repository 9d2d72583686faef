//! `Assignment`: one partition, from the moment the group assigns it to this member until it is
//! revoked.

use parking_lot::Mutex;

use forebay_stream::Watch;
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::offsets::{Head, Offsets, Slot};
use super::staged::{Output, Staged};

/// One assignment of one partition. A partition that is revoked and assigned again gets a new
/// `Assignment`. Receipts of records that were read before belong to the old one, which is
/// [fenced](Assignment::fence), so they change nothing.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    offsets: Offsets,
    phase: Phase,
    // Whether this partition is paused because it read `max_uncommitted` records past its position.
    throttled: bool,
    // The records and bytes of this partition that count as in flight.
    load: InFlight,
    // Number of records that were handed out and are not settled.
    handed_out: usize,
    // Number of records that failed or were abandoned. Their offsets stay pending, so that nothing
    // behind them is committed.
    held: usize,
    // The first offset that was read. Reading began there, so committing it would change nothing.
    first_read: Option<i64>,
    // The position last given to a commit, unless that commit has failed.
    committed: Option<i64>,
    // Replies that wait for a transaction; `None` if offsets are committed without one.
    staged: Option<Staged>,
}

/// The phase of an assignment. `close` turns `Open` into `Closed` when the partition is drained or
/// halts; `fence` turns either into `Fenced` when the assignment ends. There are no other
/// transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Records are handed out.
    Open,
    /// No more records are handed out; outcomes still count.
    Closed,
    /// The partition may belong to another member, so outcomes are ignored.
    Fenced,
}

/// How the offsets of an assignment are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// Without a transaction.
    Alone,
    /// In one transaction with the replies to their records.
    WithOutputs,
}

/// The final state of an assignment.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssignmentEnd {
    /// The position to commit; `None` if it never passed the first record, or if only a transaction
    /// may commit it.
    pub(super) commit: Option<i64>,
    /// The records and bytes that counted as in flight.
    pub(super) load: InFlight,
    /// Number of records that were handed out and are not settled.
    pub(super) handed_out: usize,
    /// Number of records that failed or were abandoned.
    pub(super) held: usize,
}

/// Returns the number of records that were handed out and not settled when their assignments ended.
pub(super) fn handed_out(ended: &[(i32, AssignmentEnd)]) -> usize {
    ended.iter().map(|(_, end)| end.handed_out).sum()
}

/// The part of an assignment that can be committed in a transaction.
#[derive(Debug)]
pub(super) struct Committable {
    /// The replies to write, each with the offset of its request, in offset order.
    pub(super) outputs: Vec<(i64, Output)>,
    /// The position to commit with these replies.
    pub(super) position: i64,
    /// Size of these requests and replies, in bytes.
    pub(super) bytes: usize,
}

impl Assignment {
    pub(super) fn new(partition: i32, commits: Commits) -> Self {
        let state = State {
            offsets: Offsets::default(),
            phase: Phase::Open,
            throttled: false,
            load: InFlight::default(),
            handed_out: 0,
            held: 0,
            first_read: None,
            committed: None,
            staged: (commits == Commits::WithOutputs).then(Staged::default),
        };
        Self { partition, state: Mutex::new(state) }
    }

    /// Adds a record of `bytes` bytes that was read at `now`. Returns `None` if the assignment has
    /// ended or the record was added before.
    ///
    /// librdkafka may return a record twice: if a partition is paused after librdkafka has returned
    /// a record and before it has moved its own position past that record, the partition resumes
    /// with the same record.
    pub(super) fn open(&self, offset: i64, bytes: usize, now: Instant) -> Option<Slot> {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return None;
        }
        if state.offsets.has_passed(offset) {
            tracing::debug!(
                partition = self.partition,
                offset,
                "ignored a record that was read a second time"
            );
            return None;
        }
        state.first_read.get_or_insert(offset);
        state.load += InFlight::of_one(bytes);
        if let Some(staged) = &mut state.staged {
            staged.read(offset, bytes);
        }
        Some(state.offsets.insert(offset, now))
    }

    /// Marks a record as handed out, so that a drain waits for its outcome. If the result is `Err`,
    /// the record must not be handed out: its offset stays pending, and the returned load is no
    /// longer in flight.
    pub(super) fn hand_out(&self, bytes: usize) -> Result<(), InFlight> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Open => {
                state.handed_out += 1;
                Ok(())
            }
            // With transactions, the record counts as in flight until the assignment ends, because
            // `staged` counts it until then.
            Phase::Closed if state.staged.is_none() => {
                let load = InFlight::of_one(bytes);
                state.load -= load;
                Err(load)
            }
            Phase::Closed | Phase::Fenced => Err(InFlight::default()),
        }
    }

    /// Settles a record as done, so that the position may pass its offset. Returns the load that is
    /// no longer in flight, or `None` if the assignment has ended.
    pub(super) fn complete(&self, slot: Slot, bytes: usize) -> Option<InFlight> {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return None;
        }
        state.handed_out -= 1;
        state.offsets.remove(slot);
        // With transactions, the bytes stay in flight until they are committed.
        let bytes = if state.staged.is_some() { 0 } else { bytes };
        let load = InFlight { records: 1, bytes };
        state.load -= load;
        Some(load)
    }

    /// Settles a record as failed or abandoned: its offset stays pending until the assignment ends.
    /// Returns the number of held records, or `None` if the assignment has ended.
    pub(super) fn hold(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return None;
        }
        state.handed_out -= 1;
        state.held += 1;
        Some(state.held)
    }

    /// Stops handing out records.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closed;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().phase == Phase::Open
    }

    /// Whether more records of this partition may be fetched: it is open and not throttled.
    pub(super) fn may_fetch(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Open && !state.throttled
    }

    /// Sets whether the partition is paused because it has reached `max_uncommitted`.
    pub(super) fn set_throttled(&self, throttled: bool) {
        self.state.lock().throttled = throttled;
    }

    /// Returns the number of records that were handed out and are not settled.
    pub(super) fn handed_out(&self) -> usize {
        self.state.lock().handed_out
    }

    /// Returns the number of uncommitted records: the oldest pending record and all records that
    /// were read after it.
    pub(super) fn uncommitted(&self) -> usize {
        let offsets = &self.state.lock().offsets;
        (offsets.seen() - offsets.passed()).try_into().unwrap_or(usize::MAX)
    }

    /// Ends the assignment. Later outcomes are ignored, so the returned state is final and its
    /// position may be committed.
    pub(super) fn fence(&self) -> AssignmentEnd {
        let mut state = self.state.lock();
        state.phase = Phase::Fenced;
        let commit = if let Some(staged) = &mut state.staged {
            // The replies to the last records may not be written, so a commit would lose them.
            *staged = Staged::default();
            None
        } else {
            state.final_commit()
        };
        let load = std::mem::take(&mut state.load);
        AssignmentEnd { commit, load, handed_out: state.handed_out, held: state.held }
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.state.lock().phase == Phase::Fenced
    }

    /// Returns the first offset that was read.
    pub(super) fn first_read(&self) -> Option<i64> {
        self.state.lock().first_read
    }

    /// Returns the position to commit, if it moved since the last commit. The position then counts
    /// as committed, unless [`commit_failed`](Self::commit_failed) is called.
    pub(super) fn next_commit(&self) -> Option<i64> {
        self.state.lock().next_commit()
    }

    /// Returns the position to commit when no other commit follows.
    pub(super) fn final_commit(&self) -> Option<i64> {
        self.state.lock().final_commit()
    }

    /// Notes that a commit failed, so that its position is committed again.
    pub(super) fn commit_failed(&self) {
        self.state.lock().committed = None;
    }

    /// Attaches a watch, which tells the stage that a record is in, to a record that was handed
    /// out.
    pub(super) fn watch(&self, slot: Slot, watch: Watch) {
        self.state.lock().offsets.watch(slot, watch);
    }

    /// Returns the smallest pending offset.
    pub(super) fn oldest(&self) -> Option<Head> {
        self.state.lock().offsets.oldest()
    }

    /// Keeps a reply to the record at `offset` for the transaction that commits the record. Drops
    /// the reply if the assignment has ended, because the record is read and answered again.
    /// Returns the load that is newly in flight.
    pub(super) fn stage(&self, offset: i64, output: Output) -> InFlight {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return InFlight::default();
        }
        let Some(staged) = &mut state.staged else { return InFlight::default() };
        let load = InFlight { records: 0, bytes: staged.add(offset, output) };
        state.load += load;
        load
    }

    /// Takes the replies that can be written and the position to commit with them, if the position
    /// moved.
    pub(super) fn take_ready(&self) -> Option<Committable> {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return None;
        }
        let position = state.next_commit()?;
        let staged = state.staged.as_mut()?;
        let (outputs, bytes) = staged.take_before(position);
        Some(Committable { outputs, position, bytes })
    }

    /// Notes that a transaction committed `position`. Returns the load that is no longer in flight.
    pub(super) fn mark_committed(&self, position: i64) -> InFlight {
        let mut state = self.state.lock();
        if state.phase == Phase::Fenced {
            return InFlight::default();
        }
        let load = state
            .staged
            .as_mut()
            .map(|staged| staged.remove_committed(position))
            .unwrap_or_default();
        state.load -= load;
        load
    }
}

impl State {
    fn next_commit(&mut self) -> Option<i64> {
        let position = self.offsets.position()?;
        if self.committed.or(self.first_read) >= Some(position) {
            return None;
        }
        self.committed = Some(position);
        Some(position)
    }

    /// Returns the position even if a commit already has it, because that commit may be under way
    /// and fail.
    fn final_commit(&mut self) -> Option<i64> {
        self.committed = None;
        self.next_commit()
    }
}

#[cfg(test)]
mod tests {
    use super::{Assignment, Commits, InFlight, Instant};

    /// Size of every record in these tests.
    const SIZE: usize = 10;

    fn assignment() -> Assignment {
        Assignment::new(0, Commits::Alone)
    }

    #[test]
    fn a_position_whose_replies_may_not_be_written_is_not_committed_at_the_end() {
        let assignment = Assignment::new(0, Commits::WithOutputs);
        let slot = assignment.open(5, SIZE, Instant::now()).unwrap();
        assert!(assignment.hand_out(SIZE).is_ok() && assignment.complete(slot, SIZE).is_some());
        assert_eq!(assignment.fence().commit, None);
    }

    fn load(records: usize) -> InFlight {
        InFlight { records, bytes: records * SIZE }
    }

    #[test]
    fn an_outcome_after_the_fence_changes_nothing() {
        let assignment = assignment();
        let [first, second] =
            [7, 8].map(|offset| assignment.open(offset, SIZE, Instant::now()).unwrap());
        assert!(assignment.hand_out(SIZE).is_ok() && assignment.hand_out(SIZE).is_ok());
        assert_eq!(assignment.complete(first, SIZE), Some(load(1)));
        let end = assignment.fence();
        assert_eq!((end.commit, end.load, end.handed_out), (Some(8), load(1), 1));
        assert_eq!(assignment.complete(second, SIZE), None);
        assert_eq!(assignment.hand_out(SIZE), Err(load(0)));
        assert_eq!(assignment.next_commit(), None);
        assert_eq!(
            assignment.open(9, SIZE, Instant::now()),
            None,
            "a fenced assignment counts no records"
        );
    }

    #[test]
    fn commits_stop_at_a_held_record() {
        let assignment = assignment();
        let slots = [0, 1, 2].map(|offset| assignment.open(offset, SIZE, Instant::now()).unwrap());
        assert!(slots.iter().all(|_| assignment.hand_out(SIZE).is_ok()));
        assert!(assignment.complete(slots[0], SIZE).is_some());
        assert_eq!(assignment.hold(), Some(1));
        assert!(assignment.complete(slots[2], SIZE).is_some());
        assert_eq!((assignment.handed_out(), assignment.uncommitted()), (0, 2));
        assert_eq!(assignment.next_commit(), Some(1));
        assert_eq!(assignment.next_commit(), None, "the position did not move");
    }

    #[test]
    fn a_record_that_was_not_handed_out_is_not_committed() {
        let assignment = assignment();
        assignment.open(5, SIZE, Instant::now());
        assignment.close();
        assert_eq!(assignment.hand_out(SIZE), Err(load(1)), "the record is no longer in flight");
        assert_eq!(assignment.handed_out(), 0);
        let end = assignment.fence();
        assert_eq!((end.commit, end.load, end.handed_out), (None, load(0), 0));
    }

    #[test]
    fn a_failed_commit_is_repeated() {
        let assignment = assignment();
        let slot = assignment.open(5, SIZE, Instant::now()).unwrap();
        assert!(assignment.hand_out(SIZE).is_ok() && assignment.complete(slot, SIZE).is_some());
        assert_eq!(assignment.next_commit(), Some(6));
        assignment.commit_failed();
        assert_eq!(assignment.next_commit(), Some(6));
    }

    #[test]
    fn the_last_commit_includes_a_position_whose_commit_may_still_fail() {
        let assignment = assignment();
        let slot = assignment.open(5, SIZE, Instant::now()).unwrap();
        assert!(assignment.hand_out(SIZE).is_ok() && assignment.complete(slot, SIZE).is_some());
        assert_eq!(assignment.next_commit(), Some(6));
        assert_eq!(assignment.fence().commit, Some(6));
    }
}

//! `Assignment`: one partition, from the moment the group gives it to this member until it takes it back.

use std::sync::Mutex;

use forebay_stream::Watch;
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::offsets::{Head, Offsets, Slot};
use super::shared::lock;
use super::staged::{Output, Staged};

/// A partition in one of its assignments: the epoch *is* this value. A partition that is given back and assigned again
/// gets a new one, and receipts of the old one find it [fenced](Assignment::fence).
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    offsets: Offsets,
    phase: Phase,
    // Whether it was paused by itself.
    stopped: bool,
    // What counts as in flight.
    load: InFlight,
    // Records that were handed out and whose outcome is not known.
    taken: usize,
    // Records that failed or were abandoned: they stay open, so that nothing behind them is committed.
    held: usize,
    // The first offset read: committing it would change nothing.
    began: Option<i64>,
    // What was last given to a commit that has not failed, or not yet.
    committed: Option<i64>,
    // What waits for a transaction; none where offsets are committed by themselves.
    staged: Option<Staged>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is handed out; outcomes still count.
    Closed,
    /// The partition may belong to another member: nothing counts any more.
    Fenced,
}

/// How the offsets of an assignment are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// By themselves.
    Alone,
    /// In one transaction with what was made of their records.
    WithOutputs,
}

/// What was left of an assignment when it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssignmentEnd {
    /// What may be committed, if anything was resolved at all.
    pub(super) commit: Option<i64>,
    /// What counted as in flight.
    pub(super) load: InFlight,
    /// Records that were handed out and came to no outcome.
    pub(super) taken: usize,
    /// Records that failed or were abandoned.
    pub(super) held: usize,
}

/// What a transaction can take of an assignment.
#[derive(Debug)]
pub(super) struct Committable {
    /// What is to be written, and the offsets that it answers, in their order.
    pub(super) outputs: Vec<(i64, Output)>,
    /// What is to be committed with it.
    pub(super) position: i64,
    /// What these inputs and outputs weigh.
    pub(super) bytes: usize,
}

impl Assignment {
    pub(super) fn new(partition: i32, commits: Commits) -> Self {
        let state = State {
            offsets: Offsets::default(),
            phase: Phase::Open,
            stopped: false,
            load: InFlight::default(),
            taken: 0,
            held: 0,
            began: None,
            committed: None,
            staged: (commits == Commits::WithOutputs).then(Staged::default),
        };
        Self { partition, state: Mutex::new(state) }
    }

    /// A record of so many bytes was read at `now`; `None` if the assignment has ended, or has had the record.
    ///
    /// librdkafka may give a record twice: where it pauses a partition between handing a record out and noting so, the
    /// partition goes on with that same record.
    pub(super) fn open(&self, offset: i64, bytes: usize, now: Instant) -> Option<Slot> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return None;
        }
        if state.offsets.has_passed(offset) {
            tracing::debug!(partition = self.partition, offset, "read a second time");
            return None;
        }
        state.began.get_or_insert(offset);
        state.load += InFlight::of_one(bytes);
        if let Some(staged) = &mut state.staged {
            staged.read(offset, bytes);
        }
        Some(state.offsets.open(offset, now))
    }

    /// Whether a record that was read may be handed out; from then on its outcome is waited for. If not, the record
    /// keeps its offset, and what is returned is in flight no longer.
    pub(super) fn take(&self, bytes: usize) -> Result<(), InFlight> {
        let mut state = lock(&self.state);
        match state.phase {
            Phase::Open => {
                state.taken += 1;
                Ok(())
            }
            // With outputs, what was read is counted until the assignment ends.
            Phase::Closed if state.staged.is_none() => {
                let load = InFlight::of_one(bytes);
                state.load -= load;
                Err(load)
            }
            Phase::Closed | Phase::Fenced => Err(InFlight::default()),
        }
    }

    /// The work on a record is over and its offset may be passed. Returns what is in flight no longer; nothing if the
    /// assignment has ended.
    pub(super) fn resolve(&self, slot: Slot, bytes: usize) -> Option<InFlight> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return None;
        }
        state.taken -= 1;
        state.offsets.resolve(slot);
        // With outputs, its bytes are in flight until they are committed.
        let bytes = if state.staged.is_some() { 0 } else { bytes };
        let load = InFlight { records: 1, bytes };
        state.load -= load;
        Some(load)
    }

    /// A record will not be answered: its offset stays, for as long as the assignment. Returns how many stay by now;
    /// `None` if the assignment has ended.
    pub(super) fn hold(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return None;
        }
        state.taken -= 1;
        state.held += 1;
        Some(state.held)
    }

    /// Hands out nothing more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Closed;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).phase == Phase::Open
    }

    /// Whether more of it is to be read, as far as it is concerned.
    pub(super) fn flows(&self) -> bool {
        let state = lock(&self.state);
        state.phase == Phase::Open && !state.stopped
    }

    /// Stops it, or lets it go on.
    pub(super) fn stop(&self, stopped: bool) {
        lock(&self.state).stopped = stopped;
    }

    /// How many records were handed out and have come to no outcome.
    pub(super) fn taken(&self) -> usize {
        lock(&self.state).taken
    }

    /// How many records were read since the oldest that is not answered, that one included.
    pub(super) fn ahead(&self) -> usize {
        let offsets = &lock(&self.state).offsets;
        (offsets.seen() - offsets.passed()).try_into().unwrap_or(usize::MAX)
    }

    /// Ends the assignment. Outcomes that come later are ignored, so what is returned is final and may be committed.
    pub(super) fn fence(&self) -> AssignmentEnd {
        let mut state = lock(&self.state);
        state.phase = Phase::Fenced;
        let commit = state.last_commit();
        if let Some(staged) = &mut state.staged {
            *staged = Staged::default();
        }
        let load = std::mem::take(&mut state.load);
        AssignmentEnd { commit, load, taken: state.taken, held: state.held }
    }

    pub(super) fn is_fenced(&self) -> bool {
        lock(&self.state).phase == Phase::Fenced
    }

    /// The first offset that was read.
    pub(super) fn began(&self) -> Option<i64> {
        lock(&self.state).began
    }

    /// What to commit now, if it moved since the last commit.
    pub(super) fn next_commit(&self) -> Option<i64> {
        lock(&self.state).next_commit()
    }

    /// What to commit when nothing will be after that.
    pub(super) fn last_commit(&self) -> Option<i64> {
        lock(&self.state).last_commit()
    }

    /// A commit failed: what may be committed is given again.
    pub(super) fn commit_failed(&self) {
        lock(&self.state).committed = None;
    }

    /// A record that was handed out can be looked at.
    pub(super) fn watch(&self, slot: Slot, watch: Watch) {
        lock(&self.state).offsets.watch(slot, watch);
    }

    /// The smallest open offset.
    pub(super) fn oldest(&self) -> Option<Head> {
        lock(&self.state).offsets.oldest()
    }

    /// Keeps what was made of the record at `offset` for the transaction that commits it. Dropped if the assignment
    /// has ended: another member makes it again. Returns what more is in flight.
    pub(super) fn stage(&self, offset: i64, output: Output) -> InFlight {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return InFlight::default();
        }
        let Some(staged) = &mut state.staged else { return InFlight::default() };
        let load = InFlight { records: 0, bytes: staged.add(offset, output) };
        state.load += load;
        load
    }

    /// What can be written and committed now, if the position moved.
    pub(super) fn take_ready(&self) -> Option<Committable> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return None;
        }
        let position = state.next_commit()?;
        let staged = state.staged.as_mut()?;
        let (outputs, bytes) = staged.take_before(position);
        Some(Committable { outputs, position, bytes })
    }

    /// A transaction has committed `position`. Returns what is in flight no longer.
    pub(super) fn written(&self, position: i64) -> InFlight {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return InFlight::default();
        }
        let load = state.staged.as_mut().map(|staged| staged.written(position)).unwrap_or_default();
        state.load -= load;
        load
    }
}

impl State {
    fn next_commit(&mut self) -> Option<i64> {
        let position = self.offsets.position()?;
        if self.committed.or(self.began) >= Some(position) {
            return None;
        }
        self.committed = Some(position);
        Some(position)
    }

    /// Given even if a commit has it already, for that one may be on its way, and fail.
    fn last_commit(&mut self) -> Option<i64> {
        self.committed = None;
        self.next_commit()
    }
}

#[cfg(test)]
mod tests {
    use super::{Assignment, Commits, InFlight, Instant};

    /// So many bytes has every record here.
    const SIZE: usize = 10;

    fn assignment() -> Assignment {
        Assignment::new(0, Commits::Alone)
    }

    fn load(records: usize) -> InFlight {
        InFlight { records, bytes: records * SIZE }
    }

    #[test]
    fn an_outcome_after_the_fence_changes_nothing() {
        let assignment = assignment();
        let [first, second] =
            [7, 8].map(|offset| assignment.open(offset, SIZE, Instant::now()).unwrap());
        assert!(assignment.take(SIZE).is_ok() && assignment.take(SIZE).is_ok());
        assert_eq!(assignment.resolve(first, SIZE), Some(load(1)));
        let remains = assignment.fence();
        assert_eq!((remains.commit, remains.load, remains.taken), (Some(8), load(1), 1));
        assert_eq!(assignment.resolve(second, SIZE), None);
        assert_eq!(assignment.take(SIZE), Err(load(0)));
        assert_eq!(assignment.next_commit(), None);
        assert_eq!(assignment.open(9, SIZE, Instant::now()), None, "it is not counted either");
    }

    #[test]
    fn a_held_record_keeps_its_offset_and_is_not_waited_for() {
        let assignment = assignment();
        let slots = [0, 1, 2].map(|offset| assignment.open(offset, SIZE, Instant::now()).unwrap());
        assert!(slots.iter().all(|_| assignment.take(SIZE).is_ok()));
        assert!(assignment.resolve(slots[0], SIZE).is_some());
        assert_eq!(assignment.hold(), Some(1));
        assert!(assignment.resolve(slots[2], SIZE).is_some());
        assert_eq!((assignment.taken(), assignment.ahead()), (0, 2));
        assert_eq!(assignment.next_commit(), Some(1));
        assert_eq!(assignment.next_commit(), None, "nothing moved");
    }

    #[test]
    fn a_record_that_was_not_handed_out_holds_its_offset_without_being_waited_for() {
        let assignment = assignment();
        assignment.open(5, SIZE, Instant::now());
        assignment.close();
        assert_eq!(assignment.take(SIZE), Err(load(1)), "it is in flight no longer");
        assert_eq!(assignment.taken(), 0);
        let remains = assignment.fence();
        assert_eq!((remains.commit, remains.load, remains.taken), (None, load(0), 0));
    }

    #[test]
    fn a_failed_commit_is_made_again() {
        let assignment = assignment();
        let slot = assignment.open(5, SIZE, Instant::now()).unwrap();
        assert!(assignment.take(SIZE).is_ok() && assignment.resolve(slot, SIZE).is_some());
        assert_eq!(assignment.next_commit(), Some(6));
        assignment.commit_failed();
        assert_eq!(assignment.next_commit(), Some(6));
    }

    #[test]
    fn the_last_commit_repeats_one_that_may_still_fail() {
        let assignment = assignment();
        let slot = assignment.open(5, SIZE, Instant::now()).unwrap();
        assert!(assignment.take(SIZE).is_ok() && assignment.resolve(slot, SIZE).is_some());
        assert_eq!(assignment.next_commit(), Some(6));
        assert_eq!(assignment.fence().commit, Some(6));
    }
}

//! `Assignment`: one partition, from the moment the group gives it to this member until it takes it back.

use std::sync::Mutex;

use tokio::time::Instant;

use super::offsets::{Offsets, Slot};
use super::shared::lock;

/// A partition in one of its assignments: the epoch *is* this value. A partition that is given back and assigned again
/// gets a new one, and receipts of the old one find it [fenced](Assignment::fence).
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    offsets: Offsets,
    phase: Phase,
    // Records that were handed out and whose outcome is not known.
    taken: usize,
    // Records that failed or were abandoned: they stay open, so that nothing behind them is committed.
    held: usize,
    // The first offset read: committing it would change nothing.
    began: Option<i64>,
    // What was last given to a commit that has not failed, or not yet.
    committed: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is handed out; outcomes still count.
    Draining,
    /// The partition may belong to another member: nothing counts any more.
    Fenced,
}

/// What was left of an assignment when it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remains {
    /// What may be committed, if anything was resolved at all.
    pub(super) commit: Option<i64>,
    /// Every record that was open, for whatever reason.
    pub(super) open: usize,
    /// Those of them that were handed out and came to no outcome.
    pub(super) taken: usize,
    /// Those of them that failed or were abandoned.
    pub(super) held: usize,
}

impl Assignment {
    pub(super) fn new(partition: i32) -> Self {
        let state = State {
            offsets: Offsets::default(),
            phase: Phase::Open,
            taken: 0,
            held: 0,
            began: None,
            committed: None,
        };
        Self { partition, state: Mutex::new(state) }
    }

    /// A record was read.
    pub(super) fn open(&self, offset: i64) -> Slot {
        let mut state = lock(&self.state);
        state.began.get_or_insert(offset);
        state.offsets.open(offset, Instant::now())
    }

    /// Whether a record that was read may be handed out; from then on its outcome is waited for.
    pub(super) fn take(&self) -> bool {
        let mut state = lock(&self.state);
        let open = state.phase == Phase::Open;
        state.taken += usize::from(open);
        open
    }

    /// The work on a record is over and its offset may be passed. False if the assignment has ended.
    pub(super) fn resolve(&self, slot: Slot) -> bool {
        let mut state = lock(&self.state);
        if state.phase == Phase::Fenced {
            return false;
        }
        state.taken -= 1;
        state.offsets.resolve(slot);
        true
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
    pub(super) fn drain(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
    }

    /// How many records were handed out and have come to no outcome.
    pub(super) fn taken(&self) -> usize {
        lock(&self.state).taken
    }

    /// Ends the assignment. Outcomes that come later are ignored, so what is returned is final and may be committed.
    pub(super) fn fence(&self) -> Remains {
        let mut state = lock(&self.state);
        state.phase = Phase::Fenced;
        let commit = state.last_commit();
        Remains { commit, open: state.offsets.len(), taken: state.taken, held: state.held }
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

    /// The smallest open offset, and since when it has been open.
    pub(super) fn oldest(&self) -> Option<(i64, Instant)> {
        lock(&self.state).offsets.oldest()
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
    use super::Assignment;

    #[test]
    fn an_outcome_after_the_fence_changes_nothing() {
        let assignment = Assignment::new(0);
        let first = assignment.open(7);
        let second = assignment.open(8);
        assert!(assignment.take() && assignment.take());
        assert!(assignment.resolve(first));
        let remains = assignment.fence();
        assert_eq!((remains.commit, remains.open, remains.taken), (Some(8), 1, 1));
        assert!(!assignment.resolve(second));
        assert!(!assignment.take());
        assert_eq!(assignment.next_commit(), None);
    }

    #[test]
    fn a_held_record_keeps_its_offset_and_is_not_waited_for() {
        let assignment = Assignment::new(0);
        let slots = [assignment.open(0), assignment.open(1), assignment.open(2)];
        assert!(slots.iter().all(|_| assignment.take()));
        assert!(assignment.resolve(slots[0]));
        assert_eq!(assignment.hold(), Some(1));
        assert!(assignment.resolve(slots[2]));
        assert_eq!(assignment.taken(), 0);
        assert_eq!(assignment.next_commit(), Some(1));
        assert_eq!(assignment.next_commit(), None, "nothing moved");
    }

    #[test]
    fn a_record_that_was_not_handed_out_holds_its_offset_without_being_waited_for() {
        let assignment = Assignment::new(0);
        assignment.open(5);
        assignment.drain();
        assert!(!assignment.take());
        assert_eq!(assignment.taken(), 0);
        let remains = assignment.fence();
        assert_eq!((remains.commit, remains.open, remains.taken), (None, 1, 0));
    }

    #[test]
    fn a_failed_commit_is_made_again() {
        let assignment = Assignment::new(0);
        let slot = assignment.open(5);
        assert!(assignment.take() && assignment.resolve(slot));
        assert_eq!(assignment.next_commit(), Some(6));
        assignment.commit_failed();
        assert_eq!(assignment.next_commit(), Some(6));
    }

    #[test]
    fn the_last_commit_repeats_one_that_may_still_fail() {
        let assignment = Assignment::new(0);
        let slot = assignment.open(5);
        assert!(assignment.take() && assignment.resolve(slot));
        assert_eq!(assignment.next_commit(), Some(6));
        assert_eq!(assignment.fence().commit, Some(6));
    }
}

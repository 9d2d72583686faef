//! `State`: the protocol between the poll thread and the worker, under one lock.
//!
//! - The poll thread starts a worker, asks for flushes, replaces a worker whose call is overdue,
//!   and stops the last one. Each replacement begins a new generation, and all reports of an older
//!   worker after that are ignored.
//! - A worker reports the call that it is in, the flushes that it completed, and the transactions
//!   that it committed or that failed.
//! - After a failure the partitions have to be rewound; `has_failed` holds until their records are
//!   read again.

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Generation of the current worker.
    generation: u64,
    phase: Phase,
    /// The blocking call that the current worker is in, and the time by which it has to return.
    call: Option<(&'static str, Instant)>,
    /// Number of replaced workers whose calls have not returned.
    stuck: usize,
    /// Number of the last flush that was requested, and of the last one that is complete.
    requested: u64,
    completed: u64,
    /// Whether a transaction failed whose records are not read again yet.
    has_failed: bool,
    /// Whether the partitions have to be rewound to their committed offsets.
    must_rewind: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// No worker runs.
    #[default]
    Ended,
    Running,
    /// The worker is asked to end.
    Stopping,
}

impl State {
    /// Ended to running, for the current generation.
    pub(super) fn start(&mut self) -> u64 {
        self.phase = Phase::Running;
        self.generation
    }

    /// Running to stopping.
    pub(super) fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
        }
    }

    /// Stopping, or running after a permanent error, to ended. The call of a replaced worker has
    /// returned.
    pub(super) fn end(&mut self, generation: u64) {
        if self.is_current(generation) {
            self.phase = Phase::Ended;
        } else {
            self.stuck = self.stuck.saturating_sub(1);
        }
    }

    /// Returns the number of replaced workers whose calls have not returned.
    pub(super) fn stuck(&self) -> usize {
        self.stuck
    }

    pub(super) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the worker of `generation` has to end.
    pub(super) fn is_over(&self, generation: u64) -> bool {
        self.phase != Phase::Running || !self.is_current(generation)
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Notes the call that a worker makes.
    pub(super) fn begin_call(&mut self, generation: u64, name: &'static str, until: Instant) {
        if self.is_current(generation) {
            self.call = Some((name, until));
        }
    }

    /// Notes that the call has returned. Returns whether its worker is still the current one.
    pub(super) fn end_call(&mut self, generation: u64) -> bool {
        let is_current = self.is_current(generation);
        if is_current {
            self.call = None;
        }
        is_current
    }

    /// Begins a new generation if the call of the current one is overdue, and returns the name of
    /// that call.
    pub(super) fn replace_if_overdue(&mut self, now: Instant) -> Option<&'static str> {
        let (name, _) = self.call.take_if(|(_, until)| now > *until)?;
        self.generation += 1;
        self.stuck += 1;
        Some(name)
    }

    /// Requests a flush and returns its number.
    pub(super) fn request_flush(&mut self) -> u64 {
        self.requested += 1;
        self.requested
    }

    /// Number of the last flush that was requested.
    pub(super) fn requested_flush(&self) -> u64 {
        self.requested
    }

    /// Notes that a worker has done everything that was requested up to flush `number`. Returns
    /// whether it is still the current one.
    pub(super) fn complete_flush(&mut self, generation: u64, number: u64) -> bool {
        let is_current = self.is_current(generation);
        if is_current {
            self.completed = self.completed.max(number);
        }
        is_current
    }

    /// Whether a flush is complete: committed or failed.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.completed >= number || self.has_ended()
    }

    /// Notes that everything in flight is void.
    pub(super) fn fail(&mut self) {
        self.has_failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Forgets a failed transaction. Returns whether there was one.
    pub(super) fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Notes that a transaction was committed, so that no earlier failure is outstanding. A worker
    /// that was replaced meanwhile leaves the failure that replaced it.
    pub(super) fn commit(&mut self, generation: u64) {
        if self.is_current(generation) {
            self.has_failed = false;
        }
    }

    /// Asks the poll thread to rewind the partitions. Returns whether the worker is still the
    /// current one.
    pub(super) fn request_rewind(&mut self, generation: u64) -> bool {
        let is_current = self.is_current(generation);
        self.must_rewind |= is_current;
        is_current
    }

    /// Takes the request to rewind, and forgets the failed transaction with it.
    pub(super) fn take_rewind(&mut self) -> bool {
        let rewind = std::mem::take(&mut self.must_rewind);
        if rewind {
            self.has_failed = false;
        }
        rewind
    }

    /// Notes that rewinding failed, so that it is tried again.
    pub(super) fn rewind_failed(&mut self) {
        self.has_failed = true;
        self.must_rewind = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::State;

    #[test]
    fn a_replaced_worker_changes_nothing() {
        let mut state = State::default();
        let old = state.start();
        let now = Instant::now();
        state.begin_call(old, "commit_transaction", now);
        assert_eq!(state.replace_if_overdue(now), None, "it is due, and not overdue");
        let later = now + Duration::from_secs(1);
        assert_eq!(state.replace_if_overdue(later), Some("commit_transaction"));
        state.fail();
        let new = state.start();
        state.begin_call(new, "init_transactions", later);

        assert!(state.is_over(old) && !state.is_over(new));
        assert_eq!(state.stuck(), 1);
        assert!(!state.end_call(old), "the late call returns");
        state.commit(old);
        assert!(!state.request_rewind(old) && !state.complete_flush(old, 1));
        state.begin_call(old, "abort_transaction", now);
        state.end(old);
        assert_eq!(state.stuck(), 0, "its thread has ended");

        assert!(state.has_failed(), "the records are still to be read again");
        assert!(!state.take_rewind() && !state.has_ended());
        let overdue = state.replace_if_overdue(later + Duration::from_secs(1));
        assert_eq!(overdue, Some("init_transactions"), "the new worker's call is still watched");
    }

    #[test]
    fn a_flush_is_complete_when_its_turn_is_or_the_worker_has_ended() {
        let mut state = State::default();
        let worker = state.start();
        let first = state.request_flush();
        let second = state.request_flush();
        assert!(state.complete_flush(worker, first));
        assert!(state.is_flushed(first) && !state.is_flushed(second));
        state.stop();
        assert!(state.is_over(worker) && !state.is_flushed(second), "it may still commit");
        state.end(worker);
        assert!(state.is_flushed(second));
    }

    #[test]
    fn a_failure_is_forgotten_when_the_records_are_read_again() {
        let mut state = State::default();
        let worker = state.start();
        state.fail();
        assert!(state.request_rewind(worker));
        assert!(state.take_rewind() && !state.has_failed() && !state.take_rewind());
        state.rewind_failed();
        assert!(state.has_failed() && state.take_rewind());
    }
}

//! `End`: how a source comes to its end.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::{Error, Stuck};

/// The first failure, the deadline for what is in flight, and whether the last commit is made.
#[derive(Debug, Default)]
pub(super) struct End {
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    failure_added: Notify,
    deadline: Mutex<Option<Instant>>,
    leaving: AtomicBool,
    stuck: watch::Sender<Option<Stuck>>,
}

impl End {
    /// Ends the source with an error. Only the first error counts.
    pub(super) fn fail(&self, error: Error) {
        // The lock is held until the error is stored, so a thread that sees `failed` and then takes
        // the error finds it. Pairs with the load in `has_failed`.
        let mut failure = self.failure.lock();
        if !self.failed.swap(true, Ordering::AcqRel) {
            *failure = Some(error);
            self.failure_added.notify_one();
        }
    }

    /// Ends the source because a record is stuck.
    pub(super) fn fail_stuck(&self, stuck: Stuck) {
        self.stuck.send_replace(Some(stuck.clone()));
        self.fail(stuck.into());
    }

    /// Returns a value that is set once a record is stuck.
    pub(super) fn stuck(&self) -> watch::Receiver<Option<Stuck>> {
        self.stuck.subscribe()
    }

    pub(super) fn has_failed(&self) -> bool {
        // Pairs with the swap in `fail`.
        self.failed.load(Ordering::Acquire)
    }

    /// Waits until the source fails. At most one task waits: the stream.
    pub(super) async fn failed(&self) {
        self.failure_added.notified().await;
    }

    /// Takes the error that ended the source. Later calls return `None`.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Ends the source when all records that were handed out are settled, at `deadline` at the
    /// latest.
    pub(super) fn close(&self, deadline: Instant) {
        *self.deadline.lock() = Some(deadline);
    }

    /// Returns the deadline of a source that is closing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.deadline().is_some()
    }

    /// Notes that the last commit is made.
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
}

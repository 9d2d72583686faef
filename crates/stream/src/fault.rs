//! `Fault`: the error that ends a flow before its input has ended. All parts of a flow share one
//! fault.

use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::{Instant, sleep_until};

use crate::PipelineError;

/// The time that a flow has to drain the events in flight after its fault was raised.
const GRACE: Duration = Duration::from_secs(1);

/// The error that ended a flow, if any. Sources, tasks and sinks raise it.
///
/// All clones of a fault belong to one flow with all its branches. When two flows are joined, their
/// faults are merged. Once a fault is raised, the flow's sources end, the events in flight are
/// drained, and every run of the flow returns the error.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Shared>);

#[derive(Default)]
struct Shared {
    // Set when this fault is merged into another. A fault that is not merged is a root. Merging
    // links one root to another root while `CHANGING` is held, so the links never form a circle.
    merged: OnceLock<Fault>,
    raised: OnceLock<Raised>,
    changed: Notify,
}

#[derive(Clone)]
struct Raised {
    error: PipelineError,
    at: Instant,
}

/// Held while a fault is merged or raised, so that an error is always raised in a root. One lock
/// for the whole process is enough, because both are rare.
static CHANGING: Mutex<()> = Mutex::new(());

impl Fault {
    /// Merges both faults: an error that is raised in one of them is then raised in both.
    pub(crate) fn merge(&self, other: &Self) {
        let _changing = CHANGING.lock();
        let root = self.root();
        let merged = other.root();
        if Arc::ptr_eq(&root.0, &merged.0) {
            return;
        }
        if let Some(raised) = merged.0.raised.get() {
            root.0.raised.get_or_init(|| raised.clone());
        }
        merged.0.merged.get_or_init(|| root.clone());
        root.0.changed.notify_waiters();
        merged.0.changed.notify_waiters();
    }

    /// Ends the flow with `error`. If the flow has already ended with another error, `error` is
    /// only logged.
    pub(crate) fn raise(&self, error: PipelineError) {
        let _changing = CHANGING.lock();
        let root = self.root();
        if let Err(Raised { error, .. }) = root.0.raised.set(Raised { error, at: Instant::now() }) {
            tracing::error!(%error, "the flow had already ended with another error");
        }
        root.0.changed.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.root().0.raised.get().is_some()
    }

    pub(crate) fn error(&self) -> Option<PipelineError> {
        Some(self.root().0.raised.get()?.error.clone())
    }

    /// Waits until the fault is raised, and returns the time at which it was raised.
    pub(crate) async fn raised(&self) -> Instant {
        loop {
            // `changed` is created before the fault is read, so that no later change is missed. If
            // `root` was merged meanwhile, the loop begins again with the new root.
            let root = self.root();
            let changed = root.0.changed.notified();
            if let Some(raised) = self.root().0.raised.get() {
                return raised.at;
            }
            if root.0.merged.get().is_none() {
                changed.await;
            }
        }
    }

    /// Waits until the fault is raised and `GRACE` has passed since then.
    pub(crate) async fn overdue(&self) {
        let at = self.raised().await;
        // Unconstrained, because a flow that uses up the task's budget at every poll would
        // otherwise keep this timer from firing.
        coop::unconstrained(sleep_until(at + GRACE)).await;
    }

    fn root(&self) -> &Self {
        let mut root = self;
        while let Some(merged) = root.0.merged.get() {
            root = merged;
        }
        root
    }
}

#[cfg(test)]
mod tests;

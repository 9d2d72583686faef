//! `Stage`: an operator as its events see it: its name, and what became of the events that ended in
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{Failure, Receipt};

/// The name of an operator, and the counters of the events that did not leave it as they came. An
/// operator ends an event only through this type, so that at rest, for each operator, the events
/// that came and those that it made are as many as those that left, failed or were discarded.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    name: Arc<str>,
    counts: Arc<Counts>,
}

/// All accesses are `Relaxed`, because the counters are only reported to people.
#[derive(Debug, Default)]
struct Counts {
    failed: Mutex<BTreeMap<String, u64>>,
    discarded: AtomicU64,
    made: AtomicI64,
}

impl Stage {
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), counts: Arc::default() }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Ends an event with a failure, to which this stage's name is added.
    pub(crate) fn fail(&self, receipt: Receipt, failure: Failure) {
        /// Codes beyond this number are counted together, because a function of the user can make
        /// any number of them.
        const MOST_CODES: usize = 64;
        let mut failed = self.counts.failed.lock();
        let code = match failure.code() {
            code if failed.len() < MOST_CODES || failed.contains_key(code) => code,
            _ => "other",
        };
        match failed.get_mut(code) {
            Some(count) => *count += 1,
            None => _ = failed.insert(code.to_owned(), 1),
        }
        drop(failed);
        receipt.fail(failure.at(Arc::clone(&self.name)));
    }

    /// Ends an event that is left out on purpose.
    pub(crate) fn discard(&self, receipt: Receipt) {
        self.counts.discarded.fetch_add(1, Ordering::Relaxed);
        receipt.done();
    }

    /// Ends an event whose content went on in others.
    pub(crate) fn spend(&self, receipt: Receipt) {
        self.made(-1);
        receipt.done();
    }

    /// Counts events that the operator made of others; a negative number for events that it joined
    /// to others.
    pub(crate) fn made(&self, more: i64) {
        self.counts.made.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts the members of a batch that become one event.
    pub(crate) fn join<T>(&self, members: &[T]) {
        self.made(1 - i64::try_from(members.len()).unwrap_or(i64::MAX));
    }

    /// Returns the number of failed events by code.
    pub(crate) fn failed(&self) -> BTreeMap<String, u64> {
        self.counts.failed.lock().clone()
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.counts.discarded.load(Ordering::Relaxed)
    }

    pub(crate) fn net_made(&self) -> i64 {
        self.counts.made.load(Ordering::Relaxed)
    }
}

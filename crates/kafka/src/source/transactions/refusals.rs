//! `Refusals`: the results that the brokers refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_stream::Failure;
use parking_lot::Mutex;

/// The requests, by partition and offset, whose results the brokers refused, and why. The next
/// result for such a request fails with this reason. A request is forgotten when its offset is
/// committed.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    failures: Mutex<HashMap<(i32, i64), Failure>>,
    // Whether `failures` has entries.
    any: AtomicBool,
}

impl Refusals {
    pub(super) fn has_any(&self) -> bool {
        // Pairs with the stores in `add` and `forget_before`.
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, partition: i32, offset: i64) -> Option<Failure> {
        self.failures.lock().get(&(partition, offset)).cloned()
    }

    pub(super) fn add(&self, partition: i32, offset: i64, failure: Failure) {
        self.failures.lock().insert((partition, offset), failure);
        // Pairs with the load in `has_any`.
        self.any.store(true, Ordering::Release);
    }

    /// Forgets the requests of a partition that are committed.
    pub(super) fn forget_before(&self, partition: i32, position: i64) {
        if self.has_any() {
            let mut failures = self.failures.lock();
            failures.retain(|(of, offset), _| *of != partition || *offset >= position);
            // Pairs with the load in `has_any`.
            self.any.store(!failures.is_empty(), Ordering::Release);
        }
    }
}

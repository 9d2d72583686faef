//! `InFlight`: the number and the size of records in flight.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of records, and their size in bytes with a fixed overhead for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl InFlight {
    pub(super) fn of_one(bytes: usize) -> Self {
        Self { records: 1, bytes }
    }
}

impl AddAssign for InFlight {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

impl SubAssign for InFlight {
    fn sub_assign(&mut self, other: Self) {
        self.records -= other.records;
        self.bytes -= other.bytes;
    }
}

/// The records in flight of a whole source, counted by all of its threads. A change is counted in
/// the assignment first and here afterwards, so for a moment the total may differ from the sum over
/// all assignments.
#[derive(Debug, Default)]
pub(super) struct TotalLoad {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl TotalLoad {
    pub(super) fn add(&self, load: InFlight) {
        // Pairs with the loads in `get`: a thread that sees the new total also sees the change of
        // the assignment that caused it.
        self.records.fetch_add(load.records, Ordering::AcqRel);
        self.bytes.fetch_add(load.bytes, Ordering::AcqRel);
    }

    /// Subtracts `load` and returns the total from before the subtraction.
    pub(super) fn remove(&self, load: InFlight) -> InFlight {
        InFlight {
            // Pairs with the loads in `get`, as in `add`.
            records: self.records.fetch_sub(load.records, Ordering::AcqRel),
            bytes: self.bytes.fetch_sub(load.bytes, Ordering::AcqRel),
        }
    }

    pub(super) fn get(&self) -> InFlight {
        InFlight {
            // Pairs with the read-modify-writes in `add` and `remove`.
            records: self.records.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Acquire),
        }
    }
}

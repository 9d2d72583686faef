//! `InFlight`: what records in flight cost.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Records, and the bytes of their keys, values and headers.
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

/// The load of a whole source, known to all of its threads. For a moment it may be off by what an assignment has just
/// counted, or has ended with.
#[derive(Debug, Default)]
pub(super) struct TotalLoad {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl TotalLoad {
    pub(super) fn add(&self, load: InFlight) {
        self.records.fetch_add(load.records, Ordering::AcqRel);
        self.bytes.fetch_add(load.bytes, Ordering::AcqRel);
    }

    /// Returns what was there before.
    pub(super) fn remove(&self, load: InFlight) -> InFlight {
        InFlight {
            records: self.records.fetch_sub(load.records, Ordering::AcqRel),
            bytes: self.bytes.fetch_sub(load.bytes, Ordering::AcqRel),
        }
    }

    pub(super) fn get(&self) -> InFlight {
        InFlight {
            records: self.records.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Acquire),
        }
    }
}

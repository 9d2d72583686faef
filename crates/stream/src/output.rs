//! `Output`: one of the outputs of an operator, with what has left through it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Event;
use crate::stage_id::{StageCell, StageId};

/// An output of an operator: the stage that its events enter next, and how many have left.
#[derive(Debug)]
pub(crate) struct Output {
    next: StageCell,
    items: AtomicU64,
    // Members of the batches; stays 0 if the items are single events.
    members: AtomicU64,
    is_of_batches: bool,
}

impl Output {
    /// Creates the output of an operator that emits items of type `I`. Its events count as being in
    /// the stage `here` until another operator is attached.
    pub(crate) fn new<I: Passing>(here: StageId) -> Self {
        Self {
            next: StageCell::new(here),
            items: AtomicU64::new(0),
            members: AtomicU64::new(0),
            is_of_batches: I::IS_BATCH,
        }
    }

    pub(crate) fn leads_to(&self, stage: StageId) {
        self.next.set(stage);
    }

    /// Counts an item that leaves, and records the stage that it enters.
    ///
    /// Only the task that polls the operator may call this. A load and a store then suffice, which
    /// cost a fraction of an atomic addition.
    pub(crate) fn pass<I: Passing>(&self, item: &I) {
        item.enters(self.next.get());
        add(&self.items, 1);
        if I::IS_BATCH {
            add(&self.members, item.members());
        }
    }

    /// Returns the number of items (events, or batches) that have left.
    pub(crate) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    /// Returns the number of events that have left, alone or in batches.
    pub(crate) fn events(&self) -> u64 {
        if self.is_of_batches { self.members.load(Ordering::Relaxed) } else { self.items() }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// An item that passes from stage to stage: an event or a batch.
pub(crate) trait Passing: Send + 'static {
    const IS_BATCH: bool;

    /// Records that the item enters `stage`.
    fn enters(&self, stage: StageId);

    /// Returns the number of events in the item.
    fn members(&self) -> u64;
}

impl<T: Send + 'static> Passing for Event<T> {
    const IS_BATCH: bool = false;

    fn enters(&self, stage: StageId) {
        self.receipt.enters(stage);
    }

    fn members(&self) -> u64 {
        1
    }
}

impl<T: Send + 'static> Passing for Vec<Event<T>> {
    const IS_BATCH: bool = true;

    fn enters(&self, stage: StageId) {
        for member in self {
            member.receipt.enters(stage);
        }
    }

    fn members(&self) -> u64 {
        self.len() as u64
    }
}

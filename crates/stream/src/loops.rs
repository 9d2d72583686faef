//! `Loop`: what a loop knows of the events inside it, and `LoopShares`, which they carry with their receipts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

/// One loop of a flow. Counts the passes to it: one for each share of a receipt of an event inside.
pub(crate) struct Loop {
    inside: AtomicUsize,
    capacity: usize,
    // Woken when an event has come back, when there is room again, and when nothing is inside any more.
    head: AtomicWaker,
}

impl Loop {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { inside: AtomicUsize::new(0), capacity, head: AtomicWaker::new() })
    }

    pub(crate) fn has_room(&self) -> bool {
        self.inside.load(Ordering::Acquire) < self.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    /// An event has come back.
    pub(crate) fn wake(&self) {
        self.head.wake();
    }

    /// Whoever polls the head is to be woken by what happens from here on.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.head.register(cx.waker());
    }
}

/// An event is inside this ring for as long as the pass is there.
struct LoopShare(Arc<Loop>);

impl LoopShare {
    fn new(ring: &Arc<Loop>) -> Self {
        ring.inside.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(ring))
    }
}

impl Clone for LoopShare {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for LoopShare {
    fn drop(&mut self) {
        let before = self.0.inside.fetch_sub(1, Ordering::AcqRel);
        if before == self.0.capacity || before == 1 {
            self.0.head.wake();
        }
    }
}

/// The loops that an event is inside; none costs nothing.
#[derive(Clone, Default)]
pub(crate) struct LoopShares(Option<Box<Inside>>);

// Invariants: not empty; one pass for each ring. Loops are rarely nested, so a list is the fastest set.
#[derive(Clone)]
struct Inside(Vec<LoopShare>);

impl LoopShares {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn enter(&mut self, ring: &Arc<Loop>) {
        let inside = self.0.get_or_insert_with(|| Box::new(Inside(Vec::with_capacity(1))));
        if inside.0.iter().all(|pass| !Arc::ptr_eq(&pass.0, ring)) {
            inside.0.push(LoopShare::new(ring));
        }
    }

    pub(crate) fn leave(&mut self, ring: &Arc<Loop>) {
        let Some(inside) = &mut self.0 else { return };
        inside.0.retain(|pass| !Arc::ptr_eq(&pass.0, ring));
        if inside.0.is_empty() {
            self.0 = None;
        }
    }

    /// What is made of two events is inside every loop that one of them was inside.
    pub(crate) fn unite(&mut self, other: Self) {
        match &mut self.0 {
            None => *self = other,
            Some(inside) => {
                for pass in other.0.into_iter().flat_map(|other| other.0) {
                    if inside.0.iter().all(|known| !Arc::ptr_eq(&known.0, &pass.0)) {
                        inside.0.push(pass);
                    }
                }
            }
        }
    }
}

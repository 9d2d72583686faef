//! `Loop`: counts the events inside a loop, from `Flow::feedback` until they are resolved or leave
//! through an exit. `LoopShares`: the loops that an event is inside, carried by its receipt.

use std::sync::Arc;

use crate::gate::Gate;

/// One loop of a flow. `inside` counts its `LoopShare`s. Every receipt of an event inside the loop
/// owns one, and so does every further share of that receipt.
pub(crate) struct Loop {
    /// The head of the loop, which is the flow that `Flow::feedback` returns, waits here: for room,
    /// and, once upstream has ended, until nothing is inside.
    pub(crate) inside: Gate,
}

impl Loop {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { inside: Gate::new(capacity) })
    }
}

/// Counts an event as inside the loop while the share exists.
struct LoopShare(Arc<Loop>);

impl LoopShare {
    fn new(the_loop: &Arc<Loop>) -> Self {
        the_loop.inside.enter(1);
        Self(Arc::clone(the_loop))
    }
}

impl Clone for LoopShare {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for LoopShare {
    fn drop(&mut self) {
        self.0.inside.leave(1);
    }
}

/// The loops that an event is inside. An event outside of all loops allocates nothing.
#[derive(Clone, Default)]
pub(crate) struct LoopShares(Option<Box<Inside>>);

// Invariants: not empty, and one share per loop. Loops are rarely nested, so searching a list is
// faster than a hash set.
#[derive(Clone)]
struct Inside(Vec<LoopShare>);

impl LoopShares {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn enter(&mut self, the_loop: &Arc<Loop>) {
        let inside = self.0.get_or_insert_with(|| Box::new(Inside(Vec::with_capacity(1))));
        if inside.0.iter().all(|share| !Arc::ptr_eq(&share.0, the_loop)) {
            inside.0.push(LoopShare::new(the_loop));
        }
    }

    pub(crate) fn leave(&mut self, the_loop: &Arc<Loop>) {
        let Some(inside) = &mut self.0 else { return };
        inside.0.retain(|share| !Arc::ptr_eq(&share.0, the_loop));
        if inside.0.is_empty() {
            self.0 = None;
        }
    }

    /// Adds the loops of `other`: an event that is made of two events is inside every loop that one
    /// of the two was inside.
    pub(crate) fn unite(&mut self, other: Self) {
        match &mut self.0 {
            None => *self = other,
            Some(inside) => {
                for share in other.0.into_iter().flat_map(|other| other.0) {
                    if inside.0.iter().all(|known| !Arc::ptr_eq(&known.0, &share.0)) {
                        inside.0.push(share);
                    }
                }
            }
        }
    }
}

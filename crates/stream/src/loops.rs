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
struct LoopShare {
    the_loop: Arc<Loop>,
    // How often the event, or the event that it was made of, has entered the loop.
    turns: u32,
}

impl LoopShare {
    fn new(the_loop: &Arc<Loop>, turns: u32) -> Self {
        the_loop.inside.enter(1);
        Self { the_loop: Arc::clone(the_loop), turns }
    }

    fn is_of(&self, the_loop: &Arc<Loop>) -> bool {
        Arc::ptr_eq(&self.the_loop, the_loop)
    }
}

impl Clone for LoopShare {
    fn clone(&self) -> Self {
        Self::new(&self.the_loop, self.turns)
    }
}

impl Drop for LoopShare {
    fn drop(&mut self) {
        self.the_loop.inside.leave(1);
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

    /// Counts the event in, and returns how often it has entered the loop.
    pub(crate) fn enter(&mut self, the_loop: &Arc<Loop>) -> u32 {
        let inside = self.0.get_or_insert_with(|| Box::new(Inside(Vec::with_capacity(1))));
        if let Some(share) = inside.0.iter_mut().find(|share| share.is_of(the_loop)) {
            share.turns = share.turns.saturating_add(1);
            return share.turns;
        }
        inside.0.push(LoopShare::new(the_loop, 1));
        1
    }

    pub(crate) fn leave(&mut self, the_loop: &Arc<Loop>) {
        let Some(inside) = &mut self.0 else { return };
        inside.0.retain(|share| !share.is_of(the_loop));
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
                    if inside.0.iter().all(|known| !known.is_of(&share.the_loop)) {
                        inside.0.push(share);
                    }
                }
            }
        }
    }
}

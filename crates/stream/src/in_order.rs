//! `InOrder`: completions in any order, released in the order in which they were opened.

use std::collections::VecDeque;

/// Holds what has completed until everything opened before it has completed too.
///
/// Opening and completing cost O(1) amortised. It holds one slot for each element between the oldest that is still
/// open and the newest; whoever opens bounds that.
///
/// ```
/// use forebay_stream::InOrder;
///
/// let mut offsets = InOrder::new();
/// let (first, second) = (offsets.open(), offsets.open());
/// assert_eq!(offsets.complete(second, 11).count(), 0);
/// assert_eq!(offsets.complete(first, 10).collect::<Vec<_>>(), [10, 11]);
/// ```
#[derive(Debug)]
pub struct InOrder<T> {
    // Slot 0 belongs to ticket `first`. Invariant: slot 0, if there is one, is open between calls.
    slots: VecDeque<Option<T>>,
    first: u64,
}

/// A place in the order; each is completed once.
#[derive(Debug)]
pub struct Ticket(u64);

impl<T> InOrder<T> {
    /// Nothing opened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: VecDeque::new(), first: 0 }
    }

    /// Takes the next place in the order.
    pub fn open(&mut self) -> Ticket {
        self.slots.push_back(None);
        Ticket(self.first + self.slots.len() as u64 - 1)
    }

    /// Completes one place; yields what is released by it, in order. What the caller does not take is dropped.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking the ticket is what makes it good for one use"
    )]
    pub fn complete(&mut self, ticket: Ticket, value: T) -> impl Iterator<Item = T> {
        let slot =
            usize::try_from(ticket.0 - self.first).ok().and_then(|index| self.slots.get_mut(index));
        if let Some(slot) = slot {
            *slot = Some(value);
        }
        let released = self.slots.iter().take_while(|slot| slot.is_some()).count();
        self.first += released as u64;
        self.slots.drain(..released).flatten()
    }

    /// How many places are open or held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::InOrder;

    proptest! {
        #[test]
        fn releases_everything_once_and_in_order(
            picks in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let mut order = InOrder::new();
            let mut open = Vec::new();
            let mut opened = 0_usize;
            let mut released = Vec::new();
            for (opens, which) in picks {
                if opens || open.is_empty() {
                    open.push((order.open(), opened));
                    opened += 1;
                } else {
                    let (ticket, number) = open.swap_remove(which.index(open.len()));
                    released.extend(order.complete(ticket, number));
                }
                let oldest_open = open.iter().map(|(_, number)| *number).min().unwrap_or(opened);
                prop_assert_eq!(&released, &(0..oldest_open).collect::<Vec<_>>());
                prop_assert_eq!(order.len(), opened - oldest_open);
            }
        }
    }
}

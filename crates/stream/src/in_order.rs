//! `InOrder`: takes values in any order, and releases them in the order in which their places were
//! opened.

use std::collections::{BTreeMap, BTreeSet};

/// Holds values until all earlier places have their values too. A place is opened first, and
/// completed with a value later.
///
/// Opening and completing cost O(log n) in the number of open places. The number of held values has
/// no limit here; the caller limits it by the number of places that it opens. A place that is
/// [given up](InOrder::give_up) takes no room, however long the places before it stay open.
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
    next: u64,
    open: BTreeSet<u64>,
    // Invariant: between calls, an open place precedes every held value.
    held: BTreeMap<u64, T>,
}

/// An open place in the order. It is used up when the place is completed or given up.
#[derive(Debug)]
pub struct Ticket(u64);

impl<T> InOrder<T> {
    /// Creates an order without open places.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, open: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// Opens the next place in the order.
    pub fn open(&mut self) -> Ticket {
        let place = self.next;
        self.next += 1;
        self.open.insert(place);
        Ticket(place)
    }

    /// Completes a place. Returns the values that this releases, in order. Values that the caller
    /// does not take from the iterator are dropped.
    pub fn complete(&mut self, ticket: Ticket, value: T) -> impl Iterator<Item = T> + use<T> {
        self.held.insert(ticket.0, value);
        self.give_up(ticket)
    }

    /// Completes a place without a value. Returns the values that this releases, as
    /// [`complete`](Self::complete) does.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket that is consumed can be used only once"
    )]
    pub fn give_up(&mut self, ticket: Ticket) -> impl Iterator<Item = T> + use<T> {
        self.open.remove(&ticket.0);
        let released = match self.open.first() {
            _ if self.held.is_empty() => BTreeMap::new(),
            Some(oldest) if *oldest > ticket.0 => {
                let behind = self.held.split_off(oldest);
                std::mem::replace(&mut self.held, behind)
            }
            // An earlier place is still open. The values before that place were released before,
            // and the values after it stay held.
            Some(_) => BTreeMap::new(),
            None => std::mem::take(&mut self.held),
        };
        released.into_values()
    }

    /// Releases all held values, in order, although places before them are open.
    pub fn release(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.held).into_values()
    }

    /// Returns the number of values that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Returns the number of places that are open, or completed and held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len() + self.held.len()
    }

    /// Whether no place is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
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
        fn each_value_is_released_once_and_in_order_when_no_earlier_place_is_open(
            picks in prop::collection::vec((0_u8..8, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut order = InOrder::new();
            let mut open = Vec::new();
            let mut opened = 0_usize;
            let mut completed = std::collections::BTreeSet::new();
            for (step, which) in picks {
                let released: Vec<usize> = match step {
                    _ if open.is_empty() => {
                        open.push((order.open(), opened));
                        opened += 1;
                        Vec::new()
                    }
                    0..4 => {
                        open.push((order.open(), opened));
                        opened += 1;
                        Vec::new()
                    }
                    4 => order.release().collect(),
                    5 => {
                        let (ticket, _) = open.swap_remove(which.index(open.len()));
                        order.give_up(ticket).collect()
                    }
                    _ => {
                        let (ticket, number) = open.swap_remove(which.index(open.len()));
                        completed.insert(number);
                        order.complete(ticket, number).collect()
                    }
                };
                let oldest = open.iter().map(|(_, number)| *number).min().unwrap_or(opened);
                let due = |number: &usize| step == 4 || *number < oldest;
                let expected: Vec<_> = completed.iter().copied().filter(due).collect();
                completed.retain(|number| !expected.contains(number));
                prop_assert_eq!(released, expected);
                prop_assert_eq!((order.held(), order.len()), (completed.len(), completed.len() + open.len()));
            }
        }
    }
}

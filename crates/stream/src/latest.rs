//! `Latest`: the newest event of one side of a join.

use std::sync::Arc;

use crate::{Event, Receipt};

/// Holds the newest event of one input, and its receipt with it.
///
/// An event that a newer one supersedes is done, as far as this place is concerned. One that was never part of an
/// output when the input ends stays unresolved, and so is read again.
pub(crate) struct Latest<T> {
    event: Option<Event<T>>,
    shown: bool,
}

impl<T> Latest<T> {
    pub(crate) const fn new() -> Self {
        Self { event: None, shown: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.event.is_none()
    }

    pub(crate) fn replace(&mut self, event: Event<T>) {
        self.shown = false;
        if let Some(superseded) = self.event.replace(event) {
            superseded.receipt.done();
        }
    }

    /// A copy with a share in the receipt.
    pub(crate) fn show(&mut self) -> Option<Event<T>>
    where
        T: Clone,
    {
        let event = self.event.as_ref()?;
        self.shown = true;
        Some(event.derive(event.value.clone()))
    }

    /// Lets go of the event at the end of the input.
    pub(crate) fn finish(&mut self) {
        if let Some(event) = self.event.take()
            && self.shown
        {
            event.receipt.done();
        }
    }
}

/// One event of two: the metadata of the first, the receipts of both.
pub(crate) fn pair<T, U>(first: Event<T>, second: Event<U>) -> Event<(T, U)> {
    let receipt = Receipt::join([first.receipt, second.receipt]);
    Event { value: (first.value, second.value), meta: Arc::clone(&first.meta), receipt }
}

//! `Latest`: the newest event of one side of a join.

use std::sync::Arc;

use crate::stage::Stage;
use crate::{Event, Receipt};

/// Holds the newest event of one side of a join, with its receipt.
///
/// When a newer event replaces it, the event is resolved as done. If the join ends and the newest
/// event was never part of an output, its receipt is dropped unresolved, so that its input is read
/// again.
pub(crate) struct Latest<T> {
    event: Option<Event<T>>,
    // Whether `event` was part of an output.
    shown: bool,
    stage: Stage,
}

impl<T> Latest<T> {
    pub(crate) const fn new(stage: Stage) -> Self {
        Self { event: None, shown: false, stage }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.event.is_none()
    }

    pub(crate) fn replace(&mut self, event: Event<T>) {
        let shown = std::mem::take(&mut self.shown);
        if let Some(superseded) = self.event.replace(event) {
            if shown {
                self.stage.spend(superseded.receipt);
            } else {
                self.stage.discard(superseded.receipt);
            }
        }
    }

    /// Returns a copy of the event for an output, with a share of the receipt.
    pub(crate) fn show(&mut self) -> Option<Event<T>>
    where
        T: Clone,
    {
        let event = self.event.as_ref()?;
        self.shown = true;
        self.stage.made(1);
        Some(event.derive(event.value.clone()))
    }

    /// Drops the event at the end of the join. If it was part of an output, it is resolved as done.
    pub(crate) fn finish(&mut self) {
        if let Some(event) = self.event.take()
            && self.shown
        {
            self.stage.spend(event.receipt);
        }
    }
}

/// Joins two events, with the metadata of the first and the receipts of both.
pub(crate) fn pair<T, U>(first: Event<T>, second: Event<U>, stage: &Stage) -> Event<(T, U)> {
    stage.made(-1);
    let receipt = Receipt::join([first.receipt, second.receipt]);
    Event { value: (first.value, second.value), meta: Arc::clone(&first.meta), receipt }
}

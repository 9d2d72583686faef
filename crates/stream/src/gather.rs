//! `Gather`: how a window holds its events until it is emitted.

use std::hash::Hash;

use crate::recent::Recent;
use crate::stage::Stage;
use crate::{Event, Failure, Keep};

/// The behaviour of a window that falls due without events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// It emits an empty batch.
    Emit,
    /// It emits nothing.
    Skip,
}

/// The events of one window. Each event that is put in is either returned by `take` or resolved by
/// the window itself.
pub(crate) trait Gather<T>: Send + 'static {
    fn put(&mut self, event: Event<T>);

    /// Returns how many events [`take`](Self::take) would return.
    fn size(&self) -> usize;

    fn take(&mut self) -> Vec<Event<T>>;
}

impl<T: Send + 'static> Gather<T> for Vec<Event<T>> {
    fn put(&mut self, event: Event<T>) {
        self.push(event);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn take(&mut self) -> Vec<Event<T>> {
        std::mem::take(self)
    }
}

/// Keeps one event per key. The other events of a key are resolved as done, because they were
/// discarded on purpose.
pub(crate) struct Distinct<T, K, F> {
    events: Recent<K, Event<T>>,
    key: F,
    keep: Keep,
    stage: Stage,
}

impl<T, K: Hash + Eq + Clone, F> Distinct<T, K, F> {
    /// Creates an empty window. An event for which `key` fails is resolved with that failure, whose
    /// stage is then `stage`.
    pub(crate) fn new(key: F, keep: Keep, stage: Stage) -> Self {
        Self { events: Recent::new(), key, keep, stage }
    }
}

impl<T, K, F> Gather<T> for Distinct<T, K, F>
where
    T: Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
    F: FnMut(&T) -> Result<K, Failure> + Send + 'static,
{
    fn put(&mut self, event: Event<T>) {
        let key = match (self.key)(&event.value) {
            Ok(key) => key,
            Err(failure) => return self.stage.fail(event.receipt, failure),
        };
        let superseded = match self.keep {
            Keep::First if self.events.contains(&key) => Some(event),
            Keep::First | Keep::Last => self.events.put(key, event),
        };
        if let Some(event) = superseded {
            self.stage.discard(event.receipt);
        }
    }

    fn size(&self) -> usize {
        self.events.len()
    }

    fn take(&mut self) -> Vec<Event<T>> {
        self.events.take().collect()
    }
}

//! `Queue`: a bounded queue between two stages of which both ends can be taken from.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// At most `capacity` items, from one producer to one consumer.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    // With one waiter each, a stored permit is enough to miss nothing.
    arrived: Notify,
    left: Notify,
    depth: Arc<AtomicUsize>,
}

struct State<T> {
    // Invariant: never longer than `capacity`.
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue that keeps its length in `depth`.
    pub(crate) fn new(capacity: NonZeroUsize, depth: Arc<AtomicUsize>) -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::new(), closed: false }),
            capacity: capacity.get(),
            arrived: Notify::new(),
            left: Notify::new(),
            depth,
        }
    }

    /// Waits until there is room for one item.
    pub(crate) async fn room(&self) {
        while self.lock().items.len() == self.capacity {
            self.left.notified().await;
        }
    }

    /// Adds an item; gives it back if there is no room.
    pub(crate) fn try_push(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        if state.items.len() == self.capacity {
            return Some(item);
        }
        state.items.push_back(item);
        self.changed(&state);
        self.arrived.notify_one();
        None
    }

    /// Adds an item; gives back the oldest if there was no room.
    pub(crate) fn force_push(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        let full = state.items.len() == self.capacity;
        let oldest = if full { state.items.pop_front() } else { None };
        state.items.push_back(item);
        self.changed(&state);
        self.arrived.notify_one();
        oldest
    }

    /// Takes the oldest item, waiting for it; `None` once the queue is closed and empty.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            {
                let mut state = self.lock();
                if let Some(item) = state.items.pop_front() {
                    self.changed(&state);
                    self.left.notify_one();
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        let mut state = self.lock();
        let item = state.items.pop_front()?;
        self.changed(&state);
        self.left.notify_one();
        Some(item)
    }

    /// No more items come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn changed(&self, state: &State<T>) {
        self.depth.store(state.items.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

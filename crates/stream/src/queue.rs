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
    // The length of `items`. Only the producer raises it, so what it reads there is never too low.
    depth: Arc<AtomicUsize>,
}

struct State<T> {
    // Invariant: never longer than `capacity`.
    items: VecDeque<T>,
    closed: bool,
    // Who waits to be notified, or did and gave up: nobody else is worth the cost of it.
    waits_for_item: bool,
    waits_for_room: bool,
}

impl<T> Queue<T> {
    /// An empty queue that keeps its length in `depth`.
    pub(crate) fn new(capacity: NonZeroUsize, depth: Arc<AtomicUsize>) -> Self {
        let state = State {
            items: VecDeque::new(),
            closed: false,
            waits_for_item: false,
            waits_for_room: false,
        };
        Self {
            state: Mutex::new(state),
            capacity: capacity.get(),
            arrived: Notify::new(),
            left: Notify::new(),
            depth,
        }
    }

    /// Waits until there is room for one item.
    pub(crate) async fn room(&self) {
        while self.depth.load(Ordering::Relaxed) == self.capacity && self.is_full() {
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
        self.added(state);
        None
    }

    /// Adds an item; gives back the oldest if there was no room.
    pub(crate) fn force_push(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        let full = state.items.len() == self.capacity;
        let oldest = if full { state.items.pop_front() } else { None };
        state.items.push_back(item);
        self.added(state);
        oldest
    }

    /// Takes the oldest item, waiting for it; `None` once the queue is closed and empty.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            {
                let mut state = self.lock();
                if let Some(item) = self.take(&mut state) {
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
                state.waits_for_item = true;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.take(&mut self.lock())
    }

    /// No more items come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Whether there is no room; the next item to leave is then notified of.
    fn is_full(&self) -> bool {
        let mut state = self.lock();
        state.waits_for_room = state.items.len() == self.capacity;
        state.waits_for_room
    }

    fn added(&self, mut state: MutexGuard<'_, State<T>>) {
        self.depth.store(state.items.len(), Ordering::Relaxed);
        let waits = std::mem::take(&mut state.waits_for_item);
        drop(state);
        if waits {
            self.arrived.notify_one();
        }
    }

    fn take(&self, state: &mut State<T>) -> Option<T> {
        let item = state.items.pop_front()?;
        self.depth.store(state.items.len(), Ordering::Relaxed);
        if std::mem::take(&mut state.waits_for_room) {
            self.left.notify_one();
        }
        Some(item)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when its producer has ended, however it has.
pub(crate) struct Closing<T>(pub(crate) Arc<Queue<T>>);

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

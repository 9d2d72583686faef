//! `Queue`: a bounded queue between two stages, whose producer can also discard the oldest item.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A queue of at most `capacity` items, with one producer and one consumer.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    // Only the consumer waits for `arrived`, and only the producer for `left`. `Notify` stores one
    // permit, so a single waiter misses no notification.
    arrived: Notify,
    left: Notify,
    // The length of `items`. Only the producer adds items, so the value that the producer reads is
    // never too low.
    depth: Arc<AtomicUsize>,
}

struct State<T> {
    // Invariant: never longer than `capacity`.
    items: VecDeque<T>,
    closed: bool,
    // Whether the consumer waits for `arrived`. A notification costs time, so it is sent only if
    // this is set. If the consumer gives up waiting, this stays set, and one notification too many
    // is sent.
    waits_for_item: bool,
    // Whether the producer waits for `left`; works like `waits_for_item`.
    waits_for_room: bool,
}

impl<T> Queue<T> {
    /// Creates an empty queue that stores its length in `depth`.
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

    /// Adds an item; returns it if there is no room.
    pub(crate) fn try_push(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        if state.items.len() == self.capacity {
            return Some(item);
        }
        state.items.push_back(item);
        self.added(state);
        None
    }

    /// Adds an item; removes and returns the oldest one if there was no room.
    pub(crate) fn force_push(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        let full = state.items.len() == self.capacity;
        let oldest = if full { state.items.pop_front() } else { None };
        state.items.push_back(item);
        self.added(state);
        oldest
    }

    /// Takes the oldest item, and waits for one if there is none; `None` once the queue is closed
    /// and empty.
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

    /// Closes the queue: no more items will be added.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Whether there is no room. If so, the producer is notified when the next item leaves.
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
        self.state.lock()
    }
}

/// Closes the queue when it is dropped, also if the producer panics.
pub(crate) struct Closing<T>(pub(crate) Arc<Queue<T>>);

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

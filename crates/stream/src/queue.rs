//! `Queue`: a bounded queue between two stages, whose producer can also discard the oldest item.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::gate::Gate;

/// A queue of at most `capacity` items, with one producer and one consumer.
pub(crate) struct Queue<T> {
    // Invariant: never longer than `capacity`.
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    // Counts the items. An item enters before it can be taken, and leaves after it was taken, so
    // the count is never too low.
    room: Gate,
    // Whether the producer adds no more items.
    is_closed: AtomicBool,
    // Woken when an item is added to an empty queue, and when the queue is closed. The consumer
    // registers its waker before it looks for both, and both are there before the wake, so the
    // consumer either sees them or is woken.
    consumer: AtomicWaker,
}

impl<T> Queue<T> {
    /// Creates an empty queue that stores its length in `depth`.
    pub(crate) fn new(capacity: NonZeroUsize, depth: Arc<AtomicUsize>) -> Self {
        // A usual queue never grows, so its allocations do not depend on how full it gets.
        const AT_ONCE: usize = 64;
        let capacity = capacity.get();
        Self {
            items: Mutex::new(VecDeque::with_capacity(capacity.min(AT_ONCE))),
            capacity,
            room: Gate::counting(depth, capacity),
            is_closed: AtomicBool::new(false),
            consumer: AtomicWaker::new(),
        }
    }

    /// Waits until there is room for one item.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| self.room.poll_room(cx)).await;
    }

    /// Adds an item; returns it if there is no room.
    pub(crate) fn try_push(&self, item: T) -> Option<T> {
        let mut items = self.items.lock();
        let was_empty = items.is_empty();
        if items.len() == self.capacity {
            return Some(item);
        }
        items.push_back(item);
        self.room.enter(1);
        drop(items);
        if was_empty {
            self.consumer.wake();
        }
        None
    }

    /// Adds an item; removes and returns the oldest one if there was no room.
    pub(crate) fn force_push(&self, item: T) -> Option<T> {
        let item = self.try_push(item)?;
        let mut items = self.items.lock();
        if items.len() < self.capacity {
            // The consumer has taken an item since `try_push`.
            drop(items);
            return self.try_push(item);
        }
        items.push_back(item);
        items.pop_front()
    }

    /// Takes the oldest item, and waits for one if there is none; `None` once the queue is closed
    /// and empty.
    pub(crate) async fn pop(&self) -> Option<T> {
        poll_fn(|cx| self.poll_pop(cx)).await
    }

    /// Like [`pop`](Self::pop).
    pub(crate) fn poll_pop(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.try_pop() {
            return Poll::Ready(Some(item));
        }
        self.consumer.register(cx.waker());
        // Pairs with the store in `close`. Loaded before the queue is looked into again, because
        // all items were added before the queue was closed.
        let is_closed = self.is_closed.load(Ordering::Acquire);
        match self.try_pop() {
            Some(item) => Poll::Ready(Some(item)),
            None if is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        if self.room.is_empty() {
            return None;
        }
        let item = self.items.lock().pop_front()?;
        self.room.leave(1);
        Some(item)
    }

    /// Closes the queue: no more items will be added.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.consumer.wake();
    }
}

/// Closes the queue when it is dropped, also if the producer panics.
pub(crate) struct Closing<T>(pub(crate) Arc<Queue<T>>);

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

//! `Outbox`: a queue into which receipts put failures, and from which a flow takes them to handle
//! them.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::gate::Gate;
use crate::{InOrder, Ticket};

/// A queue that never refuses an item, because a receipt reports its failure synchronously and
/// cannot wait for room.
///
/// The operator `catch`, which passes on the events whose failures end up here, keeps the queue
/// short: it lets no event pass until `Sender::poll_room` is ready.
struct Outbox<T> {
    state: Mutex<State<T>>,
    // Counts the items in `released`.
    room: Gate,
    // Whether all senders were dropped.
    is_closed: AtomicBool,
    // Woken when items are released, and when the outbox is closed. The taker registers its waker
    // before it looks for both, and both are there before the wake, so the taker either sees them
    // or is woken.
    taker: AtomicWaker,
    capacity: usize,
    ordered: bool,
}

struct State<T> {
    // Holds items back until every earlier place has its item or was given up; `None` if the outbox
    // is not ordered. Invariant: holds at most `capacity` items whenever the lock is free.
    order: Option<InOrder<T>>,
    // The items that can be taken. There can be more than `capacity` of them: no further event
    // passes `catch` then, but those that have passed it already may still fail.
    released: VecDeque<T>,
    // Whether the taker was dropped. Items that are sent after that are dropped at once.
    abandoned: bool,
}

/// The sending end. When all clones are dropped, the outbox is closed.
pub(crate) struct Sender<T>(Arc<SenderEnd<T>>);

struct SenderEnd<T>(Arc<Outbox<T>>);

/// The receiving end.
pub(crate) struct Taker<T>(Arc<Outbox<T>>);

/// Creates an empty outbox that counts as full once `capacity` items wait to be taken. If it is
/// `ordered`, it holds back up to `capacity` further items to keep their order.
pub(crate) fn outbox<T>(capacity: usize, ordered: bool) -> (Sender<T>, Taker<T>) {
    let state =
        State { order: ordered.then(InOrder::new), released: VecDeque::new(), abandoned: false };
    let outbox = Arc::new(Outbox {
        state: Mutex::new(state),
        room: Gate::new(capacity),
        is_closed: AtomicBool::new(false),
        taker: AtomicWaker::new(),
        capacity,
        ordered,
    });
    (Sender(Arc::new(SenderEnd(Arc::clone(&outbox)))), Taker(outbox))
}

impl<T> Outbox<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }
}

impl<T> Sender<T> {
    /// Ready while fewer than `capacity` items wait to be taken.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.0.room.poll_room(cx)
    }

    /// Reserves the next place in the order for an item that may come later. Returns `None` if the
    /// outbox is not ordered.
    pub(crate) fn open(&self) -> Option<Ticket> {
        let outbox = &self.0.0;
        if outbox.ordered { outbox.lock().order.as_mut().map(InOrder::open) } else { None }
    }

    /// Fills the place of `ticket` with the item, or gives the place up if there is none because
    /// the event did not fail. Without a ticket, the item can be taken at once.
    pub(crate) fn send(&self, ticket: Option<Ticket>, item: Option<T>) {
        if ticket.is_none() && item.is_none() {
            return;
        }
        let outbox = &self.0.0;
        let mut guard = outbox.lock();
        let state = &mut *guard;
        if state.abandoned {
            // The item is dropped after the lock is released: dropping it abandons its input, and
            // if the event has passed this `catch` twice, in a loop, that calls `send` again, which
            // would deadlock.
            drop(guard);
            return drop(item);
        }
        let before = state.released.len();
        match (&mut state.order, ticket) {
            (Some(order), Some(ticket)) => {
                match item {
                    Some(item) => state.released.extend(order.complete(ticket, item)),
                    None => state.released.extend(order.give_up(ticket)),
                }
                if order.held() > outbox.capacity {
                    state.released.extend(order.release());
                }
            }
            _ => state.released.extend(item),
        }
        let released = state.released.len() - before;
        outbox.room.enter(released);
        drop(guard);
        if released > 0 {
            outbox.taker.wake();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for SenderEnd<T> {
    fn drop(&mut self) {
        // Pairs with the load in `poll_take`.
        self.0.is_closed.store(true, Ordering::Release);
        self.0.taker.wake();
    }
}

impl<T> Taker<T> {
    /// Takes the next item; `None` once the outbox is empty and closed.
    ///
    /// This does not count against tokio's cooperative budget, because `rejoin` must see every
    /// failure that is ready before it emits a result.
    pub(crate) fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        self.0.taker.register(cx.waker());
        // Pairs with the store in `SenderEnd::drop`. Loaded before the outbox is looked into,
        // because all items were sent before it was closed.
        let is_closed = self.0.is_closed.load(Ordering::Acquire);
        if !self.0.room.is_empty() {
            let item = self.0.lock().released.pop_front();
            self.0.room.leave(usize::from(item.is_some()));
            return Poll::Ready(item);
        }
        if is_closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let (released, order) = {
            let mut state = self.0.lock();
            state.abandoned = true;
            (std::mem::take(&mut state.released), state.order.take())
        };
        self.0.room.leave(released.len());
        // The items are dropped after the lock is released: dropping one abandons its input, and if
        // the event has passed this `catch` twice, in a loop, that calls `Sender::send`, which
        // would deadlock.
        drop((released, order));
    }
}

//! `Outbox`: failures on their way from the receipts that made them to the flow that deals with them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::{InOrder, Ticket};

/// A queue that never refuses: what settles cannot wait. Instead its sender is asked whether it is full before more
/// is sent on its way.
struct Outbox<T> {
    state: Mutex<State<T>>,
    // The length of `released`, for a look without the lock.
    waiting: AtomicUsize,
    capacity: usize,
    ordered: bool,
}

struct State<T> {
    // `None` where failures leave as soon as they are known. Invariant: holds at most `capacity` between calls.
    order: Option<InOrder<T>>,
    // Invariant: at most `capacity` and what was under way when it reached that.
    released: VecDeque<T>,
    closed: bool,
    abandoned: bool,
    // Who waits for an item, and who for room.
    taker: Option<Waker>,
    sender: Option<Waker>,
}

/// The end that items come in at. When all clones are gone, so is what the other end waits for.
pub(crate) struct Sender<T>(Arc<SenderEnd<T>>);

struct SenderEnd<T>(Arc<Outbox<T>>);

/// The end that items leave at.
pub(crate) struct Taker<T>(Arc<Outbox<T>>);

/// An outbox that is full with `capacity` items, and holds back as many for the sake of their order if it is `ordered`.
pub(crate) fn outbox<T>(capacity: usize, ordered: bool) -> (Sender<T>, Taker<T>) {
    let state = State {
        order: ordered.then(InOrder::new),
        released: VecDeque::new(),
        closed: false,
        abandoned: false,
        taker: None,
        sender: None,
    };
    let (state, waiting) = (Mutex::new(state), AtomicUsize::new(0));
    let outbox = Arc::new(Outbox { state, waiting, capacity, ordered });
    (Sender(Arc::new(SenderEnd(Arc::clone(&outbox)))), Taker(outbox))
}

impl<T> Outbox<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called after each change of `released`.
    fn changed(&self, state: &State<T>) {
        self.waiting.store(state.released.len(), Ordering::Relaxed);
    }
}

impl<T> Sender<T> {
    /// Waits while as many items as fit are there to be taken.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let outbox = &self.0.0;
        if outbox.waiting.load(Ordering::Relaxed) < outbox.capacity {
            return Poll::Ready(());
        }
        let mut state = outbox.lock();
        if state.released.len() < outbox.capacity {
            return Poll::Ready(());
        }
        state.sender.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        Poll::Pending
    }

    /// A place in the order, if there is one.
    pub(crate) fn open(&self) -> Option<Ticket> {
        let outbox = &self.0.0;
        if outbox.ordered { outbox.lock().order.as_mut().map(InOrder::open) } else { None }
    }

    /// Sends an item, or nothing, from its place in the order.
    pub(crate) fn send(&self, ticket: Option<Ticket>, item: Option<T>) {
        if ticket.is_none() && item.is_none() {
            return;
        }
        let outbox = &self.0.0;
        let mut guard = outbox.lock();
        let state = &mut *guard;
        if state.abandoned {
            // Dropped outside of the lock: that settles other receipts.
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
        outbox.changed(state);
        let taker = if state.released.len() > before { state.taker.take() } else { None };
        drop(guard);
        taker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for SenderEnd<T> {
    fn drop(&mut self) {
        let taker = {
            let mut state = self.0.lock();
            state.closed = true;
            state.taker.take()
        };
        taker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Taker<T> {
    /// The next item; `None` when there will be none.
    ///
    /// It costs nothing of the task's budget: `rejoin` relies on seeing a failure that is there.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        if let Some(item) = state.released.pop_front() {
            self.0.changed(&state);
            let has_room = state.released.len() < self.0.capacity;
            let sender = if has_room { state.sender.take() } else { None };
            drop(state);
            sender.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.taker.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
        Poll::Pending
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let (released, order, sender) = {
            let mut state = self.0.lock();
            state.abandoned = true;
            let released = std::mem::take(&mut state.released);
            self.0.changed(&state);
            (released, state.order.take(), state.sender.take())
        };
        // What was in it settles as abandoned, outside of the lock.
        drop((released, order));
        sender.into_iter().for_each(Waker::wake);
    }
}

//! `in_key_order`: restores the order of each key's results after operators that reorder events.

use parking_lot::{Mutex, MutexGuard};
use std::any::Any;
use std::collections::HashSet;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::{self, BoxStream, Fuse, Stream, StreamExt as _};
use futures::task::AtomicWaker;

use crate::gate::Gate;
use crate::key_lines::{Entered, KeyLines, Output, Over};
use crate::{Event, Flow, NodeKind, Outcome, Receipt, Settle};

impl<T: Send + 'static> Flow<T> {
    /// Keeps the results of each key in the order of that key's inputs, whatever the operators in
    /// `inner` do: batches, [`map_async_unordered`](Flow::map_async_unordered),
    /// [`retry`](Flow::retry), branches. The key is the key of the record.
    ///
    /// A result leaves when all older inputs of its key have left `inner`, whether they became
    /// results, were discarded or failed. Other keys are not held up, and records without a key are
    /// not ordered. A result that is made of several inputs takes the place of the oldest of them:
    /// it leaves when, for each of its keys, all inputs that are older than its oldest input have
    /// left. A result that `inner` [detached](Flow::detach) has no place in the order, and leaves
    /// at once.
    ///
    /// A failure is passed on in its input's turn too. With [`catch`](Flow::catch) before this
    /// operator and [`rejoin`](Flow::rejoin) after it, answers to failures are in their key's
    /// order, if `catch` releases them [at once](crate::Release::AtOnce) and no operator between
    /// this one and `rejoin` holds events.
    ///
    /// - **Emits** the events that `inner` emits, in order.
    /// - **Backpressures** when downstream does, and while `capacity` inputs with a key are under
    ///   way: they are in `inner`, or they wait for an older input of their key that is in `inner`.
    ///   Holds the results of at most that many inputs. Operators in `inner` that wait for more
    ///   inputs than `capacity`, such as a window without a timeout, wait for ever.
    /// - **Completes** when `inner` does, after the events it holds.
    /// - **On failure** in `inner`, the original receipt of the event fails in its turn.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let slow = |(user, millis)| async move {
    ///     tokio::time::sleep(Duration::from_millis(millis)).await;
    ///     Ok((user, millis))
    /// };
    /// let ten = at_most(10);
    /// let flow = Flow::from_iter([("ann", 50), ("ann", 1), ("bob", 20)]);
    /// let flow = flow.in_order_by(ten, |(user, _)| *user, |flow| flow.map_async_unordered(slow, ten));
    /// assert_eq!(flow.collect().await?, [("bob", 20), ("ann", 50), ("ann", 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_key_order<U: Send + 'static>(
        self,
        capacity: NonZeroUsize,
        inner: impl FnOnce(Self) -> Flow<U>,
    ) -> Flow<U> {
        self.ordered(capacity, |event| event.meta.key.clone(), inner)
    }

    /// The same as [`in_key_order`](Flow::in_key_order), with the key that `key` computes from the
    /// value.
    pub fn in_order_by<K, U>(
        self,
        capacity: NonZeroUsize,
        mut key: impl FnMut(&T) -> K + Send + 'static,
        inner: impl FnOnce(Self) -> Flow<U>,
    ) -> Flow<U>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        U: Send + 'static,
    {
        self.ordered(capacity, move |event| Some(key(&event.value)), inner)
    }

    fn ordered<K, U>(
        self,
        capacity: NonZeroUsize,
        mut key: impl FnMut(&Event<T>) -> Option<K> + Send + 'static,
        inner: impl FnOnce(Self) -> Flow<U>,
    ) -> Flow<U>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        U: Send + 'static,
    {
        let shared = Arc::new(Shared {
            inside: Gate::new(capacity.get()),
            lines: Mutex::new(KeyLines::new()),
            exit: AtomicWaker::new(),
        });
        let entrance = Arc::clone(&shared);
        let entered = self.0.apply(NodeKind::Junction, "in_key_order", |mut upstream, _| {
            stream::poll_fn(move |cx| {
                ready!(entrance.inside.poll_room(cx));
                let event = ready!(upstream.poll_next_unpin(cx));
                Poll::Ready(event.map(|event| match key(&event) {
                    Some(key) => entrance.enter(event, key),
                    None => event,
                }))
            })
        });
        let left = inner(Self(entered)).0;
        Flow(left.apply(NodeKind::Junction, "in_turn", |inner, _| Exit {
            inner: inner.fuse(),
            shared,
            left: None,
        }))
    }
}

/// State shared by the entrance, the exit and the receipts between them.
struct Shared<K, U> {
    // Counts the inputs in `lines`. The entrance waits here for room.
    inside: Gate,
    lines: Mutex<KeyLines<K, U>>,
    // Woken when an output may leave. The exit registers its waker before it looks into `lines`,
    // and the output is ready there before the wake, so the exit either sees it or is woken.
    exit: AtomicWaker,
}

/// Receives the outcome of an input while it is inside, that is, between the entrance and the exit.
struct Position<K: Hash + Eq + Clone + Send + Sync + 'static, U: Send + 'static> {
    key: K,
    entered: Entered,
    receipt: Receipt,
    shared: Arc<Shared<K, U>>,
}

impl<K, U> Shared<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    fn lock(&self) -> MutexGuard<'_, KeyLines<K, U>> {
        self.lines.lock()
    }

    /// Adds the event to its key's line, and gives it a new receipt that stands for the old one.
    fn enter<T>(self: &Arc<Self>, event: Event<T>, key: K) -> Event<T> {
        self.inside.enter(1);
        let entered = self.lock().enter(key.clone());
        let (value, Event { meta, receipt, .. }) = event.take();
        let position = |receipt| Position { key, entered, receipt, shared: Arc::clone(self) };
        Event { value, meta, receipt: receipt.wrapped(position) }
    }

    /// Returns `receiver` as a position of this operator, if it is one.
    fn position<'a>(self: &Arc<Self>, receiver: &'a dyn Settle) -> Option<&'a Position<K, U>> {
        let position: &Position<K, U> = (receiver as &dyn Any).downcast_ref()?;
        Arc::ptr_eq(&position.shared, self).then_some(position)
    }

    /// Adds an output of `inner` to the lines. Returns the output instead if it can leave at once,
    /// without waiting in a line.
    fn take_in(self: &Arc<Self>, event: Event<U>) -> Option<Event<U>> {
        let output = match event.receipt.receiver().and_then(|receiver| self.position(receiver)) {
            Some(position) if position.entered.is_first => return Some(event),
            Some(position) => {
                let oldest = position.entered.number;
                let key = Some(position.key.clone());
                Output { event, oldest, key, others: Vec::new() }
            }
            None => {
                let mut oldest = u64::MAX;
                let mut keys = HashSet::new();
                self.each_position(&event.receipt, |position| {
                    oldest = oldest.min(position.entered.number);
                    keys.insert(position.key.clone());
                });
                if keys.is_empty() {
                    return Some(event);
                }
                Output { event, oldest, key: None, others: keys.into_iter().collect() }
            }
        };
        self.lock().add(output);
        None
    }

    fn each_position(self: &Arc<Self>, receipt: &Receipt, mut visit: impl FnMut(&Position<K, U>)) {
        let walked = receipt.walk(&mut |_, receiver| {
            if let Some(position) = self.position(receiver) {
                visit(position);
            }
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(walked.is_continue(), "the visitor never breaks");
    }

    /// Whether the receipt stands for an input of this operator.
    fn leads_here(self: &Arc<Self>, receipt: &Receipt) -> bool {
        let walked = receipt.walk(&mut |_, receiver| match self.position(receiver) {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        });
        walked.is_break()
    }

    /// Returns the receipt of an output that leaves: a share in each original receipt of the inputs
    /// that it was made of.
    fn outside(self: &Arc<Self>, receipt: &Receipt) -> Receipt {
        if let Some(position) = receipt.receiver().and_then(|receiver| self.position(receiver)) {
            return position.receipt.share();
        }
        let mut outside = Vec::new();
        let mut rest = vec![receipt];
        let mut seen = HashSet::new();
        while let Some(receipt) = rest.pop() {
            let Some(receiver) = receipt.receiver() else { continue };
            if !seen.insert(receipt.identity()) {
                continue;
            }
            if let Some(position) = self.position(receiver) {
                outside.push(position.receipt.share());
            } else if self.leads_here(receipt) {
                // An operator in `inner` joined this receipt from others, or wrapped another
                // receipt in it.
                rest.extend(receiver.stands_for().iter().rev());
            } else {
                // This receipt belongs to another flow that was joined with this one in `inner`.
                outside.push(receipt.share());
            }
        }
        Receipt::join(outside)
    }

    /// Records that the work on an input is over. If the input is the first of its line, lets it
    /// pass, and then the inputs behind it up to the first one whose work is not over.
    fn end(&self, key: K, number: u64, over: Over) {
        let mut lines = self.lock();
        let Some(over) = lines.end(&key, number, over) else { return };
        let mut passing = Some((key, over));
        let mut passed = 0;
        while let Some((key, over)) = passing {
            if let Some((receipt, failure)) = over {
                // The failure is passed on before any output behind this input can leave. The lock
                // is released meanwhile, because `fail` can settle other receipts.
                drop(lines);
                receipt.fail(failure);
                lines = self.lock();
            }
            passing = lines.pass(key);
            passed += 1;
        }
        let has_next = lines.has_next();
        drop(lines);
        self.inside.leave(passed);
        if has_next {
            self.exit.wake();
        }
    }
}

impl<K, U> Settle for Position<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { key, entered, receipt, shared } = *self;
        let over = match outcome {
            Outcome::Failed(failure) => Some((receipt, failure)),
            // No error reply is sent for these outcomes, so they need not wait for their turn.
            Outcome::Done | Outcome::Abandoned => {
                receipt.resolve(outcome);
                None
            }
        };
        shared.end(key, entered.number, over);
    }

    fn stands_for(&self) -> &[Receipt] {
        std::slice::from_ref(&self.receipt)
    }
}

/// The state machine behind the end of [`Flow::in_key_order`]. Each poll resolves the inner receipt
/// of the last output, then emits an output that is ready, and otherwise polls `inner`. It ends
/// when `inner` has ended and no outputs are left.
struct Exit<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    inner: Fuse<BoxStream<'static, Event<U>>>,
    shared: Arc<Shared<K, U>>,
    // The receipt that the last output had inside. It is resolved when downstream polls again,
    // because downstream has then taken that output, and nothing that passes from then on can
    // overtake it.
    left: Option<Receipt>,
}

impl<K, U> Exit<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    fn emit(&mut self, event: Event<U>) -> Event<U> {
        if !self.shared.leads_here(&event.receipt) {
            return event;
        }
        let (value, Event { meta, receipt, .. }) = event.take();
        let outside = self.shared.outside(&receipt);
        self.left = Some(receipt);
        Event { value, meta, receipt: outside }
    }
}

impl<K, U> Stream for Exit<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    type Item = Event<U>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<U>>> {
        let this = &mut *self;
        if let Some(left) = this.left.take() {
            left.done();
        }
        loop {
            let next = this.shared.lock().next();
            if let Some(event) = next {
                return Poll::Ready(Some(this.emit(event)));
            }
            if let Poll::Ready(Some(event)) = this.inner.poll_next_unpin(cx) {
                match this.shared.take_in(event) {
                    Some(event) => return Poll::Ready(Some(this.emit(event))),
                    None => continue,
                }
            }
            this.shared.exit.register(cx.waker());
            let lines = this.shared.lock();
            if lines.has_next() {
                continue;
            }
            if this.inner.is_done() && !lines.has_outputs() {
                return Poll::Ready(None);
            }
            return Poll::Pending;
        }
    }
}

impl<K, U> Drop for Exit<K, U>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    U: Send + 'static,
{
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            left.done();
        }
        // Waiting outputs own receipts that own `shared`, which owns the outputs. Dropping the
        // outputs breaks this cycle.
        let outputs = self.shared.lock().clear();
        drop(outputs);
    }
}

#[cfg(test)]
mod tests;

//! `retry`: emits an event again if the work on it failed with a transient failure.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use futures::task::AtomicWaker;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use crate::clock::{later, poll_until};
use crate::gate::Gate;
use crate::stage::Stage;
use crate::{Event, Flow, Meta, NodeKind, Outcome, Receipt, Settle};

/// The number of attempts of [`Flow::retry`], and the wait between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The number of attempts in total; 1 means no retry.
    pub attempts: NonZeroU32,
    /// The wait before the second attempt. Each further wait is twice as long.
    pub backoff: Duration,
    /// The upper limit of the wait.
    pub max_backoff: Duration,
}

impl Retry {
    /// Returns the wait after this number of failed attempts.
    fn wait_after(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(self.max_backoff)
    }
}

impl<T: Clone + Send + Sync + 'static> Flow<T> {
    /// Emits an event again if the work on it failed downstream with a
    /// [transient](crate::Failure::transient) failure.
    ///
    /// Results that were made of the event before it failed are not taken back: a step that
    /// delivers several results of one event may deliver some of them again. A retried event comes
    /// later than the events after it; to restore the order of each key, see
    /// [`in_key_order`](Flow::in_key_order).
    ///
    /// - **Emits** every event once, and again for each further attempt when its wait is over. An
    ///   event whose wait is over goes before new events.
    /// - **Backpressures** when downstream does, and while `capacity` events wait for their next
    ///   attempt. Events that were emitted before this limit was reached can still fail, and then
    ///   wait too; the operators downstream limit their number.
    /// - **Completes** when upstream has completed and every event is resolved. Operators
    ///   downstream must therefore not hold events until their own input ends: a window needs a
    ///   timeout there, as in a [loop](Flow::feedback).
    /// - **On failure** that is not transient, or that ends the last attempt, the original receipt
    ///   of the event fails, with the number of [attempts](crate::Failure::attempts).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroU32;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Failure, Flow, Retry, at_most};
    ///
    /// let retry = Retry {
    ///     attempts: NonZeroU32::new(3).expect("3 is not 0"),
    ///     backoff: Duration::from_millis(1),
    ///     max_backoff: Duration::from_secs(1),
    /// };
    /// let mut calls = 0;
    /// let moody = move |text: &str| {
    ///     calls += 1;
    ///     if calls < 3 { Err(Failure::new("overloaded", calls).transient()) } else { Ok(text.len()) }
    /// };
    /// let capacity = at_most(100);
    /// let flow = Flow::from_iter(["hello"]).retry(retry, capacity).try_map(moody);
    /// assert_eq!(flow.collect().await?, [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(self, retry: Retry, capacity: NonZeroUsize) -> Self {
        Self(self.0.holding().apply(NodeKind::Element, "retry", |upstream, stage| Retrying {
            upstream: upstream.fuse(),
            stage,
            tries: Arc::new(Tries {
                retry,
                open: Gate::new(usize::MAX),
                due: Gate::new(capacity.get()),
                state: Mutex::default(),
                arrived: AtomicWaker::new(),
            }),
            timer: None,
        }))
    }
}

/// The state machine behind [`Flow::retry`]. Each poll emits an event whose next attempt is due,
/// otherwise a new event. It ends when upstream has ended and all events are resolved.
struct Retrying<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    stage: Stage,
    tries: Arc<Tries<T>>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// State shared by the operator and the receipts that it gave to events.
struct Tries<T> {
    retry: Retry,
    // Counts the attempts under way: their events were emitted, and are not resolved yet.
    open: Gate,
    // Counts the events in `waiting`.
    due: Gate,
    state: Mutex<State<T>>,
    // Woken when an event begins to wait. The operator registers its waker before it looks at
    // `due`, which the event has entered by then, so it either sees the event or is woken.
    arrived: AtomicWaker,
}

struct State<T> {
    // Sorted by the time at which they are due. The number distinguishes events that are due at the
    // same time.
    waiting: BTreeMap<(Instant, u64), Again<T>>,
    number: u64,
    // Whether the operator was dropped, so that no event that waits will be emitted.
    closed: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), number: 0, closed: false }
    }
}

/// An event that is to be tried, and the number of its failed attempts.
struct Again<T> {
    event: Event<T>,
    failed: u32,
}

/// Receives the outcome of one attempt.
struct Attempt<T> {
    value: T,
    meta: Arc<Meta>,
    receipt: Receipt,
    failed: u32,
    tries: Arc<Tries<T>>,
}

impl<T: Clone + Send + Sync + 'static> Tries<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }

    /// Returns the event for its next attempt, with a new receipt.
    fn emit(self: &Arc<Self>, Again { event, failed }: Again<T>) -> Event<T> {
        let (value, Event { meta, receipt, .. }) = event.take();
        self.open.enter(1);
        let receipt = receipt.wrapped(|receipt| Attempt {
            value: value.clone(),
            meta: Arc::clone(&meta),
            receipt,
            failed,
            tries: Arc::clone(self),
        });
        Event { value, meta, receipt }
    }

    /// Keeps the event for another attempt; returns it if the operator was dropped.
    fn keep(&self, again: Again<T>) -> Option<Again<T>> {
        let due = later(Instant::now(), self.retry.wait_after(again.failed));
        let mut state = self.lock();
        if state.closed {
            return Some(again);
        }
        state.number += 1;
        let number = state.number;
        state.waiting.insert((due, number), again);
        self.due.enter(1);
        drop(state);
        self.arrived.wake();
        None
    }

    /// Ready when no attempt is under way and no event waits for one. To be polled once upstream
    /// has ended.
    fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        ready!(self.open.poll_empty(cx));
        // An event that begins to wait enters `due` before it leaves `open`, so `due` is up to date.
        if self.due.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Removes an event that is due. If there is none, returns the time at which the next one is
    /// due.
    fn next_due(&self) -> Result<Again<T>, Option<Instant>> {
        let mut state = self.lock();
        let Some(first) = state.waiting.first_entry() else { return Err(None) };
        let due = first.key().0;
        if due > Instant::now() {
            return Err(Some(due));
        }
        let again = first.remove();
        drop(state);
        self.due.leave(1);
        Ok(again)
    }
}

impl<T: Clone + Send + Sync + 'static> Settle for Attempt<T> {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { value, meta, receipt, failed, tries } = *self;
        let failed = failed + 1;
        match outcome {
            Outcome::Failed(failure)
                if failure.is_transient() && failed < tries.retry.attempts.get() =>
            {
                // `keep` returns the event if the operator was dropped. Dropping the event leaves
                // its input abandoned, so it is read again.
                drop(tries.keep(Again { event: Event { value, meta, receipt }, failed }));
            }
            Outcome::Failed(failure) => receipt.fail(failure.after(failed)),
            outcome => receipt.resolve(outcome),
        }
        // The event leaves `open` last, so that it is open, waiting or resolved at any time.
        tries.open.leave(1);
    }

    fn stands_for(&self) -> &[Receipt] {
        std::slice::from_ref(&self.receipt)
    }
}

impl<T: Clone + Send + Sync + 'static> Stream for Retrying<T> {
    type Item = Event<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<T>>> {
        let this = &mut *self;
        // Each poll counts against tokio's cooperative budget, so that the task yields to others.
        // Events that fail at once can keep this operator busy for a long time. They come from this
        // operator and not from a source, so nothing else would use budget for them.
        let progress = ready!(coop::poll_proceed(cx));
        this.tries.arrived.register(cx.waker());
        let mut next = None;
        if !this.tries.due.is_empty() {
            match this.tries.next_due() {
                Ok(again) => {
                    progress.made_progress();
                    this.stage.made(1);
                    return Poll::Ready(Some(this.tries.emit(again)));
                }
                Err(due) => next = due,
            }
        }
        // Only this operator makes room, so it need not wait for it.
        if this.tries.due.has_room() {
            match this.upstream.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => {
                    progress.made_progress();
                    return Poll::Ready(Some(this.tries.emit(Again { event, failed: 0 })));
                }
                Poll::Ready(None) if this.tries.poll_over(cx).is_ready() => {
                    return Poll::Ready(None);
                }
                _ => {}
            }
        }
        if let Some(due) = next
            && poll_until(&mut this.timer, due, cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T> Drop for Retrying<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.tries.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        // Dropped outside of the lock, because that settles other receipts.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests;

//! `retry`: emits an event again if the work on it failed with a transient failure.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use futures::task::AtomicWaker;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use crate::clock::{later, poll_until};
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
    /// use std::num::{NonZeroU32, NonZeroUsize};
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Failure, Flow, Retry};
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
    /// let capacity = NonZeroUsize::new(100).expect("100 is not 0");
    /// let flow = Flow::from_iter(["hello"]).retry(retry, capacity).try_map(moody);
    /// assert_eq!(flow.collect().await?, [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(self, retry: Retry, capacity: NonZeroUsize) -> Self {
        Self(self.0.holding().apply(NodeKind::Element, "retry", |upstream, _| Retrying {
            upstream: upstream.fuse(),
            tries: Arc::new(Tries {
                retry,
                open: AtomicUsize::new(0),
                ended: AtomicBool::new(false),
                due: AtomicUsize::new(0),
                state: Mutex::default(),
                changed: AtomicWaker::new(),
            }),
            capacity: capacity.get(),
            timer: None,
        }))
    }
}

/// The state machine behind [`Flow::retry`]. Each poll emits an event whose next attempt is due,
/// otherwise a new event. It ends when upstream has ended and all events are resolved.
struct Retrying<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    tries: Arc<Tries<T>>,
    capacity: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

/// State shared by the operator and the receipts that it gave to events.
struct Tries<T> {
    retry: Retry,
    // The number of attempts under way: their events were emitted, and are not resolved yet.
    open: AtomicUsize,
    // Whether upstream has ended.
    ended: AtomicBool,
    // The length of `waiting`, to be read without the lock.
    due: AtomicUsize,
    state: Mutex<State<T>>,
    // Woken when an event begins to wait, and when the last one is resolved.
    changed: AtomicWaker,
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
        self.open.fetch_add(1, Ordering::Relaxed);
        let attempt = Attempt {
            value: value.clone(),
            meta: Arc::clone(&meta),
            receipt,
            failed,
            tries: Arc::clone(self),
        };
        Event { value, meta, receipt: Receipt::of(attempt) }
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
        self.due.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        self.changed.wake();
        None
    }

    /// Records that upstream has ended. Returns whether the operator has ended too: no attempt is
    /// under way, and no event waits for one.
    fn is_over(&self) -> bool {
        // Pairs with `Attempt::settle`, which decrements `open` and then reads `ended`. Both are
        // SeqCst, so at least one side sees the end. An event that begins to wait is counted in
        // `due` before it leaves `open`, so `due` is up to date once `open` is 0.
        self.ended.store(true, Ordering::SeqCst);
        self.open.load(Ordering::SeqCst) == 0 && self.due.load(Ordering::Relaxed) == 0
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
        self.due.store(state.waiting.len(), Ordering::Relaxed);
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
        // `open` is decremented last, so that every event counts as open, waiting or resolved at
        // any time. Pairs with `is_over`, which writes `ended` and then reads `open`.
        if tries.open.fetch_sub(1, Ordering::SeqCst) == 1 && tries.ended.load(Ordering::SeqCst) {
            tries.changed.wake();
        }
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
        this.tries.changed.register(cx.waker());
        let mut next = None;
        if this.tries.due.load(Ordering::Relaxed) > 0 {
            match this.tries.next_due() {
                Ok(again) => {
                    progress.made_progress();
                    return Poll::Ready(Some(this.tries.emit(again)));
                }
                Err(due) => next = due,
            }
        }
        if this.tries.due.load(Ordering::Relaxed) < this.capacity {
            match this.upstream.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => {
                    progress.made_progress();
                    return Poll::Ready(Some(this.tries.emit(Again { event, failed: 0 })));
                }
                Poll::Ready(None) if this.tries.is_over() => return Poll::Ready(None),
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
mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures::stream::StreamExt as _;
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, timeout};

    use super::Retry;
    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow, Outcome, Release};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn retry(attempts: u32, backoff: Duration) -> Retry {
        let attempts = NonZeroU32::new(attempts).unwrap();
        Retry { attempts, backoff, max_backoff: Duration::from_millis(25) }
    }

    fn busy() -> Failure {
        Failure::new("busy", "").transient()
    }

    /// The number of an input, how many of its attempts fail with a transient failure, and whether
    /// the next attempt after them fails for good.
    type Moody = (usize, u32, bool);

    /// Returns a function that gives the result of an input's next attempt.
    fn step() -> impl FnMut(Moody) -> Result<usize, Failure> {
        let mut tried = HashMap::new();
        move |(number, fails, broken)| {
            let tried = tried.entry(number).or_insert(0);
            *tried += 1;
            match () {
                () if *tried <= fails => Err(busy()),
                () if broken => Err(Failure::new("broken", "")),
                () => Ok(number),
            }
        }
    }

    fn expected(&(_, fails, broken): &Moody, attempts: u32) -> Outcome {
        match () {
            () if fails >= attempts => Outcome::Failed(busy().at("try_map").after(attempts)),
            () if broken => {
                Outcome::Failed(Failure::new("broken", "").at("try_map").after(fails + 1))
            }
            () => Outcome::Done,
        }
    }

    proptest! {
        #[test]
        fn each_event_is_tried_until_it_is_done_or_fails_for_good_or_has_no_attempts_left(
            inputs in prop::collection::vec((0_u32..5, any::<bool>()), 0..40),
            attempts in 1_u32..5, capacity in 1_usize..6, window in 1_usize..6,
        ) {
            let inputs: Vec<Moody> = inputs
                .into_iter().enumerate().map(|(number, (fails, broken))| (number, fails, broken)).collect();
            let (flow, outcomes) = Tracked::flow(inputs.clone());
            let flow = flow.retry(retry(attempts, MILLISECOND), size(capacity));
            let flow = flow.partition(size(window), Some(MILLISECOND)).flatten();
            let run = flow.try_map(step()).collect();
            let in_time = block_on(async { timeout(Duration::from_hours(1), run).await });
            let mut results = in_time.expect("it ends").unwrap();
            results.sort_unstable();

            let wanted: Vec<_> = inputs.iter().map(|input| expected(input, attempts)).collect();
            let passed = inputs.iter().zip(&wanted).filter(|(_, wanted)| **wanted == Outcome::Done);
            prop_assert_eq!(results, passed.map(|(input, _)| input.0).collect::<Vec<_>>());
            prop_assert_eq!(outcomes.all(), wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_doubles_up_to_its_limit() {
        let start = Instant::now();
        let (seen, attempts) = mpsc::channel();
        let (flow, outcomes) = Tracked::flow([()]);
        let flow = flow.retry(retry(5, Duration::from_millis(10)), size(1)).try_map(move |()| {
            seen.send(start.elapsed().as_millis()).unwrap();
            Err::<(), _>(busy())
        });
        flow.collect().await.unwrap();
        assert_eq!(attempts.iter().collect::<Vec<_>>(), [0, 10, 30, 55, 80]);
        assert_eq!(outcomes.all(), [Outcome::Failed(busy().at("try_map").after(5))]);
    }

    #[test]
    fn the_longest_waits_do_not_overflow() {
        let forever = Retry { max_backoff: Duration::MAX, ..retry(u32::MAX, Duration::MAX) };
        assert_eq!(forever.wait_after(u32::MAX), Duration::MAX);
        let short = Retry { max_backoff: Duration::MAX, ..retry(9, MILLISECOND) };
        assert_eq!(
            [1, 2, 33].map(|failed| short.wait_after(failed)),
            [1, 2, u32::MAX].map(|n| MILLISECOND * n)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn upstream_waits_while_capacity_events_wait_for_their_next_attempt() {
        let (flow, outcomes) = Tracked::flow((0..9).map(|number| (number, 1, false)));
        let flow = flow.retry(retry(2, Duration::from_millis(20)), size(3)).try_map(step());
        let run = tokio::spawn(flow.collect());
        sleep(10 * MILLISECOND).await;
        assert_eq!(outcomes.codes(), ["open"; 3], "upstream was asked for three events only");
        assert_eq!(run.await.unwrap().unwrap(), (0..9).collect::<Vec<_>>());
        assert_eq!(outcomes.codes(), ["done"; 9]);
    }

    #[test]
    fn an_event_that_is_due_goes_before_new_events() {
        let flow = Flow::from_iter([(0, 1, false), (1, 0, false)]);
        let flow = flow.retry(retry(2, Duration::ZERO), size(3)).try_map(step());
        assert_eq!(block_on(flow.collect()).unwrap(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_wait_or_fail_after_the_flow_was_dropped_are_abandoned() {
        let (flow, outcomes) = Tracked::flow(0..3);
        let mut events = flow.retry(retry(2, MILLISECOND), size(3)).0.stream.take(3);
        let [first, second, _third] =
            [events.next().await, events.next().await, events.next().await];
        first.unwrap().receipt.fail(busy());
        assert_eq!(outcomes.codes(), ["open"; 3]);
        drop(events);
        assert_eq!(outcomes.codes(), ["abandoned", "open", "open"]);
        second.unwrap().receipt.fail(busy());
        assert_eq!(outcomes.codes(), ["abandoned", "abandoned", "open"]);
    }

    #[tokio::test]
    async fn an_event_that_fails_again_and_again_lets_other_tasks_run() {
        let flow = Flow::from_iter([()]).retry(retry(u32::MAX, Duration::ZERO), size(1));
        let run = flow.try_map(|()| Err::<(), _>(busy())).collect();
        assert!(timeout(Duration::from_millis(5), run).await.is_err());
    }

    #[test]
    fn a_failure_of_the_last_attempt_leaves_catch_in_order_with_its_number_of_attempts() {
        let inputs = [(0, 9, false), (1, 1, false), (2, 0, true), (3, 0, false)];
        let (flow, failures) = Flow::from_iter(inputs).catch(size(9), Release::InOrder);
        let results = flow.retry(retry(3, MILLISECOND), size(9)).try_map(step());
        let errors = failures.map(|failed| {
            format!("{} {} {}", failed.input.0, failed.failure.code(), failed.failure.attempts())
        });
        let answers = block_on(results.map(|n| n.to_string()).rejoin(errors).collect()).unwrap();
        assert_eq!(answers, ["3", "1", "0 busy 3", "2 broken 1"]);
    }
}

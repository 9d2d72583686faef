//! `retry`: what fails for the moment is tried again, later.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use futures::task::AtomicWaker;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use crate::clock::{later, poll_until};
use crate::{Event, Flow, Meta, NodeKind, Outcome, Receipt, Settle};

/// How often [`Flow::retry`] tries, and how long it waits between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often an event is tried in total; 1 is no retry.
    pub attempts: NonZeroU32,
    /// The wait before the second attempt. Each further one is twice as long.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

impl Retry {
    /// How long to wait when so many attempts have failed.
    fn wait_after(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(self.max_backoff)
    }
}

impl<T: Clone + Send + Sync + 'static> Flow<T> {
    /// Emits an event once more where its work failed downstream with a [transient](crate::Failure::transient) failure.
    ///
    /// Whatever was made of the event before it failed has gone its way: a step that delivers several results of one
    /// event may deliver some of them again. Behind a retry an event comes later than those after it; for their order,
    /// see
    /// [`in_key_order`](Flow::in_key_order).
    ///
    /// - **Emits** every event, and again those that are due for another attempt, which go before new ones.
    /// - **Backpressures** when downstream does, and while `capacity` events wait for their next attempt. Holds at most
    ///   that many, and those that had been emitted before. How many are under way is for the operators downstream to
    ///   bound.
    /// - **Completes** when upstream has completed and every event is resolved. So what is behind it must not hold
    ///   events until its own input ends: a window needs a timeout there, as in a [loop](Flow::feedback).
    /// - **On failure** that is not transient, or is that of the last attempt, the event's own receipt fails, with the
    ///   number of [attempts](crate::Failure::attempts).
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
        Self(self.0.apply(NodeKind::Element, "retry", |upstream, _| Retrying {
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

/// State machine behind [`Flow::retry`].
struct Retrying<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    tries: Arc<Tries<T>>,
    capacity: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the operator and the receipts that it gave know of each other.
struct Tries<T> {
    retry: Retry,
    // How many events are neither resolved nor waiting.
    open: AtomicUsize,
    // No new events come.
    ended: AtomicBool,
    // The length of `waiting`, for a look without the lock.
    due: AtomicUsize,
    state: Mutex<State<T>>,
    // Woken when an event begins to wait, and when the last is resolved.
    changed: AtomicWaker,
}

struct State<T> {
    // By when they are due; the number tells those apart that are due at once.
    waiting: BTreeMap<(Instant, u64), Again<T>>,
    number: u64,
    // Nobody takes what waits.
    closed: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), number: 0, closed: false }
    }
}

/// An event, and how many attempts have failed.
struct Again<T> {
    event: Event<T>,
    failed: u32,
}

/// Waits for the outcome of one attempt.
struct Attempt<T> {
    value: T,
    meta: Arc<Meta>,
    receipt: Receipt,
    failed: u32,
    tries: Arc<Tries<T>>,
}

impl<T: Clone + Send + Sync + 'static> Tries<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event for its next attempt.
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

    /// Keeps the event for another attempt; gives it back where there will be none.
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

    /// Whether nothing will come any more, once there is nothing new.
    fn are_over(&self) -> bool {
        // Whoever resolves the last event does this the other way round, so one of both notices. An event that begins
        // to wait does so before it stops being open.
        self.ended.store(true, Ordering::SeqCst);
        self.open.load(Ordering::SeqCst) == 0 && self.due.load(Ordering::Relaxed) == 0
    }

    /// What is due, or when something will be.
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
                // Without another attempt the outcome is open: the input must be read again.
                drop(tries.keep(Again { event: Event { value, meta, receipt }, failed }));
            }
            Outcome::Failed(failure) => receipt.fail(failure.after(failed)),
            outcome => receipt.resolve(outcome),
        }
        // Last, so that there is no moment in which it is neither open nor waiting nor resolved.
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
        // Events that fail at once can keep this busy for long without a source.
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
                Poll::Ready(None) if this.tries.are_over() => return Poll::Ready(None),
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
            let mut state = self.tries.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        // Outside of the lock, for it settles other receipts.
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

    /// An input with its number that fails so often for the moment, and then for good or not at all.
    type Moody = (usize, u32, bool);

    /// What becomes of an input at its next attempt.
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
        fn each_event_is_tried_until_it_is_done_or_broken_or_has_failed_often_enough(
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
    async fn the_wait_doubles_up_to_the_longest() {
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
    fn the_longest_waits_that_can_be_asked_for_are_waits() {
        let forever = Retry { max_backoff: Duration::MAX, ..retry(u32::MAX, Duration::MAX) };
        assert_eq!(forever.wait_after(u32::MAX), Duration::MAX);
        let short = Retry { max_backoff: Duration::MAX, ..retry(9, MILLISECOND) };
        assert_eq!(
            [1, 2, 33].map(|failed| short.wait_after(failed)),
            [1, 2, u32::MAX].map(|n| MILLISECOND * n)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn upstream_waits_while_as_many_events_as_the_capacity_wait_for_their_next_attempt() {
        let (flow, outcomes) = Tracked::flow((0..9).map(|number| (number, 1, false)));
        let flow = flow.retry(retry(2, Duration::from_millis(20)), size(3)).try_map(step());
        let run = tokio::spawn(flow.collect());
        sleep(10 * MILLISECOND).await;
        assert_eq!(outcomes.codes(), ["open"; 3], "no more than these were taken");
        assert_eq!(run.await.unwrap().unwrap(), (0..9).collect::<Vec<_>>());
        assert_eq!(outcomes.codes(), ["done"; 9]);
    }

    #[test]
    fn what_is_due_goes_before_what_is_new() {
        let flow = Flow::from_iter([(0, 1, false), (1, 0, false)]);
        let flow = flow.retry(retry(2, Duration::ZERO), size(3)).try_map(step());
        assert_eq!(block_on(flow.collect()).unwrap(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_or_fails_when_the_flow_has_ended_is_abandoned() {
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
    fn what_is_given_up_comes_out_of_catch_with_its_attempts_and_in_its_place() {
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

//! `adaptive_window`: batches of all events that are ready when downstream asks for one.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

use crate::clock::{later, poll_until};
use crate::dispatches::{Dispatches, Reason};
use crate::failure::infallible;
use crate::stage::Stage;
use crate::{Batches, Event, Failure, Flow, NodeKind};

/// The limits of an [`adaptive_window`](Flow::adaptive_window): the first one that is reached
/// closes the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveWindow {
    /// The maximum number of events in a batch.
    pub max_size: NonZeroUsize,
    /// The longest time that a batch waits for more events, from when its first event was taken. If
    /// it is zero, a batch has only the events that are ready.
    pub max_wait: Duration,
    /// The maximum cost of a batch's events together, in the unit of the cost function (tokens,
    /// bytes); [`u64::MAX`] for no such limit.
    pub max_cost: u64,
}

impl<T: Send + 'static> Flow<T> {
    /// Gathers the events that are ready when downstream asks: single events while downstream is
    /// idle, and larger batches the busier it is. This is the window for inference. To gather at a
    /// fixed interval instead, see [`timed_window`](Flow::timed_window); to fill batches up,
    /// [`partition`](Flow::partition).
    ///
    /// - **Emits**, when downstream asks, the events that upstream has ready, up to the limits. If
    ///   `max_wait` is not zero, it gathers until that time has passed since the first event (a
    ///   later event does not extend it) or a limit is reached. A batch is never empty. An event
    ///   with which the batch would exceed `max_cost` starts the next batch. An event whose cost
    ///   alone exceeds `max_cost` is a batch by itself.
    /// - **Backpressures** when downstream does. Events then gather upstream: put a
    ///   [`buffer`](Flow::buffer) before this operator if upstream keeps no events ready by itself.
    ///   Holds at most `max_size` events.
    /// - **Completes** when upstream completes, after the events it holds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{AdaptiveWindow, Flow, at_most};
    ///
    /// let max_size = at_most(64);
    /// let limits = AdaptiveWindow { max_size, max_wait: Duration::ZERO, max_cost: 5 };
    /// let texts = Flow::from_iter(["a", "bb", "ccc", "dddddddd", "e"]);
    /// let batches = texts.adaptive_window(limits, |text| text.len() as u64).into_lists();
    /// assert_eq!(batches.collect().await?, [vec!["a", "bb"], vec!["ccc"], vec!["dddddddd"], vec!["e"]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adaptive_window(
        self,
        limits: AdaptiveWindow,
        cost: impl FnMut(&T) -> u64 + Send + 'static,
    ) -> Batches<T> {
        self.try_adaptive_window(limits, infallible(cost))
    }

    /// Gathers as [`adaptive_window`](Flow::adaptive_window) does, by a cost that can fail.
    ///
    /// - **On failure** of `cost` that event's receipt fails, with this stage's name; other events
    ///   are not affected.
    pub fn try_adaptive_window(
        self,
        limits: AdaptiveWindow,
        cost: impl FnMut(&T) -> Result<u64, Failure> + Send + 'static,
    ) -> Batches<T> {
        Batches(self.0.apply(NodeKind::Window, "adaptive_window", |events, stage| Gathering {
            upstream: events.fuse(),
            limits,
            cost,
            window: Window::new(),
            dispatches: Dispatches::new(
                &stage,
                &[Reason::Size, Reason::Cost, Reason::Wait, Reason::Drain],
            ),
            timer: None,
            stage,
        }))
    }
}

/// The state machine behind [`Flow::adaptive_window`]. A window closes when it is full, when the
/// next event does not fit, when upstream ends, or when it is due.
struct Gathering<T, F> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    stage: Stage,
    limits: AdaptiveWindow,
    cost: F,
    // Invariant: within the limits, except that a single event may cost more.
    window: Window<T>,
    dispatches: Dispatches,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Window<T> {
    events: Vec<Event<T>>,
    cost: u64,
    // The time at which its first event was taken from upstream; `None` while it is empty.
    opened: Option<Instant>,
}

impl<T> Window<T> {
    const fn new() -> Self {
        Self { events: Vec::new(), cost: 0, opened: None }
    }

    fn put(&mut self, event: Event<T>, cost: u64) {
        self.opened.get_or_insert_with(Instant::now);
        self.cost = self.cost.saturating_add(cost);
        self.events.push(event);
    }
}

/// The reason why a window is closed, and the event that did not fit, with its cost.
type Closed<T> = (Reason, Option<(Event<T>, u64)>);

impl<T, F> Unpin for Gathering<T, F> {}

impl<T, F: FnMut(&T) -> Result<u64, Failure>> Gathering<T, F> {
    /// Takes the events that upstream has ready. Ready when the window is closed, with the reason,
    /// and the event that did not fit and its cost, if there is such an event.
    fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<Closed<T>> {
        loop {
            if let Some(reason) = self.is_full() {
                return Poll::Ready((reason, None));
            }
            let Some(event) = ready!(self.upstream.poll_next_unpin(cx)) else {
                return Poll::Ready((Reason::Drain, None));
            };
            let cost = match (self.cost)(&event.value) {
                Ok(cost) => cost,
                Err(failure) => {
                    self.stage.fail(event.receipt, failure);
                    continue;
                }
            };
            if !self.has_room(cost) {
                return Poll::Ready((Reason::Cost, Some((event, cost))));
            }
            self.window.put(event, cost);
        }
    }

    /// Returns which limit the window has reached.
    fn is_full(&self) -> Option<Reason> {
        let Window { events, cost, .. } = &self.window;
        if events.len() == self.limits.max_size.get() {
            return Some(Reason::Size);
        }
        (!events.is_empty() && *cost >= self.limits.max_cost).then_some(Reason::Cost)
    }

    fn has_room(&self, cost: u64) -> bool {
        let sum = self.window.cost.checked_add(cost);
        self.window.events.is_empty() || sum.is_some_and(|sum| sum <= self.limits.max_cost)
    }

    /// Ready when the window has waited for `max_wait`; never if it is empty.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(opened) = self.window.opened else { return Poll::Pending };
        poll_until(&mut self.timer, later(opened, self.limits.max_wait), cx)
    }
}

impl<T, F: FnMut(&T) -> Result<u64, Failure>> Stream for Gathering<T, F> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (reason, left_over) = match self.poll_full(cx) {
            Poll::Ready((reason, left_over)) => (reason, left_over),
            Poll::Pending => {
                ready!(self.poll_due(cx));
                (Reason::Wait, None)
            }
        };
        let window = std::mem::replace(&mut self.window, Window::new());
        if let Some((event, cost)) = left_over {
            self.window.put(event, cost);
        }
        let Some(opened) = window.opened else { return Poll::Ready(None) };
        self.dispatches.count_after(reason, window.events.len(), opened.elapsed());
        Poll::Ready(Some(window.events))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::StreamExt as _;
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, timeout};

    use super::AdaptiveWindow;
    use crate::testing::{Tracked, block_on, size, timed};
    use crate::{Flow, Overflow};

    fn limits(max_size: usize, max_wait: u64, max_cost: u64) -> AdaptiveWindow {
        let max_wait = Duration::from_millis(max_wait);
        AdaptiveWindow { max_size: size(max_size), max_wait, max_cost }
    }

    /// Sends a number at each of the milliseconds in `at`. Returns the batches, each with the
    /// millisecond at which it left.
    async fn batches(
        at: &[u64],
        limits: AdaptiveWindow,
        cost: fn(&u64) -> u64,
    ) -> Vec<(Vec<u64>, u64)> {
        let start = Instant::now();
        let left = move |list| (list, u64::try_from(start.elapsed().as_millis()).unwrap());
        let (flow, outcomes) = Tracked::stream(timed(at.to_vec()));
        let seen = flow.adaptive_window(limits, cost).into_lists().map(left).collect().await;
        assert_eq!(outcomes.codes(), vec!["done"; at.len()]);
        seen.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_consumer_gets_each_event_at_once_and_a_busy_one_gets_gathered_events() {
        let start = Instant::now();
        let events = Flow::from_stream(timed(vec![0, 1, 2, 3, 30])).buffer(size(9), Overflow::Wait);
        let lists = events.adaptive_window(limits(64, 0, u64::MAX), |_| 1).into_lists();
        let slow = move |list| async move {
            let begun = start.elapsed().as_millis();
            sleep(Duration::from_millis(10)).await;
            Ok((list, begun))
        };
        let seen = lists.map_async(slow, size(1)).collect().await.unwrap();
        assert_eq!(seen, [(vec![0], 0), (vec![1, 2, 3], 10), (vec![30], 30)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_runs_from_the_first_event_of_each_batch() {
        let seen = batches(&[0, 60, 130, 500], limits(9, 100, 9), |_| 1).await;
        assert_eq!(seen, [(vec![0, 60], 100), (vec![130], 230), (vec![500], 500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_of_an_event_that_did_not_fit_runs_from_when_it_came() {
        let seen = batches(&[0, 50, 900], limits(9, 100, 5), |_| 3).await;
        assert_eq!(seen, [(vec![0], 50), (vec![50], 150), (vec![900], 900)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_due_while_downstream_is_busy_includes_later_events() {
        let events = Flow::from_stream(timed(vec![0, 20, 40, 70])).buffer(size(9), Overflow::Wait);
        let mut lists =
            events.adaptive_window(limits(9, 10, u64::MAX), |_| 1).into_lists().0.stream;
        assert_eq!(lists.next().await.unwrap().value, [0]);
        sleep(Duration::from_millis(15)).await;
        assert!(timeout(Duration::from_millis(1), lists.next()).await.is_err());
        sleep(Duration::from_millis(24)).await;
        assert_eq!(lists.next().await.unwrap().value, [20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_wait_does_not_panic() {
        let forever = AdaptiveWindow { max_wait: Duration::MAX, ..limits(9, 0, 9) };
        assert_eq!(batches(&[0, 7], forever, |_| 1).await, [(vec![0, 7], 7)]);
    }

    #[test]
    fn no_more_events_are_taken_than_the_batch_and_the_one_that_does_not_fit() {
        let (flow, outcomes) = Tracked::flow(1_u64..);
        let mut windows = flow.adaptive_window(limits(3, 0, 6), |value| *value).0.stream;
        let mut next = || block_on(windows.next()).unwrap();
        let first = next();
        assert_eq!(first.len(), 3, "1 + 2 + 3");
        assert_eq!(outcomes.codes(), ["open"; 3], "a full batch does not take the next event");
        let second = next();
        let third = next();
        assert_eq!((second.len(), third.len()), (1, 1), "4 + 5 is too much");
        assert_eq!(outcomes.codes(), ["open"; 6]);
        drop((first, second, third, windows));
        assert_eq!(outcomes.codes(), ["abandoned"; 6]);
    }

    proptest! {
        #[test]
        fn batches_agree_with_packing_a_list(
            costs in prop::collection::vec(prop_oneof![9 => 0_u64..9, 1 => Just(u64::MAX)], 0..60),
            max_size in 1_usize..6, max_cost in 0_u64..20, wait in 0_u64..9,
        ) {
            let mut expected: Vec<Vec<u64>> = Vec::new();
            for &cost in &costs {
                let sum = |batch: &Vec<u64>| batch.iter().map(|&cost| u128::from(cost)).sum::<u128>();
                match expected.last_mut() {
                    Some(batch)
                        if batch.len() < max_size
                            && sum(batch) < u128::from(max_cost)
                            && sum(batch) + u128::from(cost) <= u128::from(max_cost) => batch.push(cost),
                    _ => expected.push(vec![cost]),
                }
            }
            let (flow, outcomes) = Tracked::flow(costs.clone());
            let lists = flow.adaptive_window(limits(max_size, wait, max_cost), |cost| *cost).into_lists();
            prop_assert_eq!(block_on(lists.collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.codes(), vec!["done"; costs.len()]);
        }

        #[test]
        fn batches_agree_with_a_simulation_over_time(
            gaps in prop::collection::vec(1_u64..30, 0..40),
            max_size in 1_usize..6, max_cost in 1_u64..20, wait in prop_oneof![Just(0), (0_u64..50).prop_map(|n| 2 * n + 1)],
        ) {
            // Events come at even times and a wait has an odd length or none, so that no event
            // comes at the end of a wait.
            let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += 2 * gap; Some(*now) }).collect();
            let cost = |at: &u64| at % 7;
            let mut expected = Vec::new();
            let mut batch: Vec<u64> = Vec::new();
            for &now in &at {
                let due = batch.first().map(|opened| opened + wait);
                let sum: u64 = batch.iter().map(cost).sum();
                if due.is_some_and(|due| due < now) {
                    expected.push((std::mem::take(&mut batch), due.unwrap()));
                } else if !batch.is_empty() && sum + cost(&now) > max_cost {
                    expected.push((std::mem::take(&mut batch), now));
                }
                batch.push(now);
                if batch.len() == max_size || batch.iter().map(cost).sum::<u64>() >= max_cost {
                    expected.push((std::mem::take(&mut batch), now));
                }
            }
            if !batch.is_empty() {
                expected.push((batch, *at.last().unwrap()));
            }
            let seen = block_on(async { batches(&at, limits(max_size, wait, max_cost), cost).await });
            prop_assert_eq!(seen, expected);
        }
    }
}

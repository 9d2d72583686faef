//! `adaptive_window_by_length`: batches of similar lengths, chosen when downstream can take them.

mod choice;
mod measures;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use self::choice::{Candidate, Limit, choose};
use self::measures::Measures;
use crate::batching::CostModel;
use crate::clock::later;
use crate::dispatches::{Dispatches, Reason};
use crate::pump::{GiveWay, Pump};
use crate::queue::{Closing, Queue};
use crate::stage::Stage;
use crate::{AdaptiveWindow, Batches, Event, Failure, Flow, Meta, NodeKind, at_most};

/// The time after which an event without a deadline is as urgent as one whose deadline has come, so
/// that it does not wait for ever behind events with deadlines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The maximum number of events among which a batch is chosen. If `max_size` is larger, it takes
/// the place of this limit.
const LOOKAHEAD: NonZeroUsize = at_most(1024);

impl<T: Send + 'static> Flow<T> {
    /// Gathers waiting events into batches of similar lengths, each chosen at the moment at which
    /// downstream can take it. This is the window for a model whose device pads its batches; to
    /// take events in the order in which they came, see [`adaptive_window`](Flow::adaptive_window).
    ///
    /// `length` returns the number of elements of a value. `costs` predicts how long the device
    /// takes for a batch. `limits.max_cost` is the maximum number of elements in a batch, including
    /// padding. `deadline` returns the time until which an event is useful, if there is one, or a
    /// failure if the event is already useless.
    ///
    /// - **Emits** a batch as soon as downstream asks. The waiting events are divided into the
    ///   batches that take the device the least time in total, and the batch with the most urgent
    ///   event is emitted. The most urgent event is the one with the earliest deadline. An event
    ///   without a deadline is as urgent as if it had a deadline one second after it came. If
    ///   nothing is padded, the batch has the most urgent events, up to the limits. If `max_wait`
    ///   is not zero, the operator waits for more events until that time has passed since the
    ///   oldest event came (also if downstream was busy meanwhile). It waits for less time if a
    ///   deadline would otherwise be missed.
    /// - **Backpressures** when 1024 events (or `max_size`, if that is more) can be chosen from and
    ///   as many more wait in a queue. A separate task takes events from upstream into the queue
    ///   while downstream is busy.
    /// - **Completes** when upstream completes, after the events it holds.
    /// - **On failure** of `deadline`, that event's receipt fails, with this stage's name; other
    ///   events are not affected. `deadline` is called when an event comes, and again when its
    ///   deadline has passed. A panic upstream ends the flow, after the events it holds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use forebay_stream::batching::{CostModel, Shapes};
    /// use forebay_stream::{AdaptiveWindow, Flow, at_most};
    ///
    /// let max_size = at_most(64);
    /// let limits = AdaptiveWindow { max_size, max_wait: Duration::from_secs(1), max_cost: 16_384 };
    /// let costs = Arc::new(CostModel::new(Shapes::padded()));
    /// let texts = Flow::from_iter([vec![7; 900], vec![7; 3], vec![7; 800], vec![7; 2]]);
    /// let batches = texts.adaptive_window_by_length(limits, costs, |text| text.len() as u64, |_| Ok(None));
    /// let lengths = batches.into_lists().map(|batch| batch.iter().map(Vec::len).collect::<Vec<_>>());
    /// assert_eq!(lengths.collect().await?, [[900, 800], [3, 2]]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    pub fn adaptive_window_by_length(
        self,
        limits: AdaptiveWindow,
        costs: Arc<CostModel>,
        length: impl Fn(&T) -> u64 + Send + 'static,
        deadline: impl Fn(&Meta) -> Result<Option<Instant>, Failure> + Send + 'static,
    ) -> Batches<T> {
        let fault = self.0.fault.clone();
        let name = "adaptive_window_by_length";
        Batches(self.0.apply_node(NodeKind::Window, name, |events, node| {
            let lookahead = LOOKAHEAD.max(limits.max_size);
            let queue = Arc::new(Queue::new(lookahead, node.depth_gauge()));
            let carry = carry(events, Arc::clone(&queue));
            let end = Closing(Arc::clone(&queue));
            let pump = Pump::new(Arc::clone(node.name()), fault, carry, end);
            let pool = Pool {
                queue,
                stage: node.stage().clone(),
                dispatches: Dispatches::new(node.stage(), &REASONS),
                measures: Measures::new(node.stage()),
                limits,
                lookahead: lookahead.get(),
                costs,
                length,
                deadline,
                waiting: Vec::new(),
                is_last: false,
            };
            stream::unfold((pool, pump), |(mut pool, pump)| async move {
                pump.start();
                tokio::task::consume_budget().await;
                Some((pool.next().await?, (pool, pump)))
            })
            .fuse()
        }))
    }
}

/// The reasons why a batch leaves this window.
const REASONS: [Reason; 6] =
    [Reason::Idle, Reason::Size, Reason::Cost, Reason::Wait, Reason::Deadline, Reason::Drain];

/// The time at which an event came, and the event.
type Arrival<T> = (Instant, Event<T>);

async fn carry<T>(mut events: BoxStream<'static, Event<T>>, queue: Arc<Queue<Arrival<T>>>) {
    let mut give_way = GiveWay::new();
    loop {
        give_way.wait(queue.room()).await;
        let Some(event) = give_way.wait(events.next()).await else { break };
        // `try_push` succeeds: there is room, and no other task adds events.
        drop(queue.try_push((Instant::now(), event)));
        give_way.after_event().await;
    }
}

/// The waiting events from which a batch is chosen.
struct Pool<T, L, D> {
    queue: Arc<Queue<Arrival<T>>>,
    stage: Stage,
    dispatches: Dispatches,
    measures: Measures,
    limits: AdaptiveWindow,
    lookahead: usize,
    costs: Arc<CostModel>,
    length: L,
    deadline: D,
    // In the order in which they came. Invariant: at most `lookahead` events.
    waiting: Vec<Waiting<T>>,
    // Whether upstream has ended.
    is_last: bool,
}

struct Waiting<T> {
    event: Event<T>,
    came: Instant,
    deadline: Option<Instant>,
    length: u64,
}

impl<T> Waiting<T> {
    fn candidate(&self) -> Candidate {
        let urgent = self.deadline.unwrap_or_else(|| later(self.came, PATIENCE));
        Candidate { length: self.length, urgent }
    }
}

impl<T, L, D> Pool<T, L, D>
where
    L: Fn(&T) -> u64,
    D: Fn(&Meta) -> Result<Option<Instant>, Failure>,
{
    /// Returns the next batch; `None` once there are no more. Waits while there is no event.
    /// Dispatches a batch when upstream has ended or the time to gather events is over. Until then,
    /// waits for the next event or the end of that time.
    async fn next(&mut self) -> Option<Vec<Event<T>>> {
        loop {
            self.take_arrivals();
            self.expire();
            if self.waiting.is_empty() {
                if self.is_last {
                    return None;
                }
                self.wait_for_arrival().await;
                continue;
            }
            let (wait_until, reason) = self.wait_until();
            if self.is_last {
                return Some(self.dispatch(Reason::Drain));
            }
            if wait_until <= Instant::now() {
                return Some(self.dispatch(reason));
            }
            if self.waiting.len() == self.lookahead {
                sleep_until(wait_until).await;
            } else {
                tokio::select! {
                    () = self.wait_for_arrival() => {}
                    () = sleep_until(wait_until) => {}
                }
            }
        }
    }

    fn take_arrivals(&mut self) {
        while self.waiting.len() < self.lookahead
            && let Some(arrival) = self.queue.try_pop()
        {
            self.take(arrival);
        }
    }

    /// Waits for the next event or for the end of upstream.
    async fn wait_for_arrival(&mut self) {
        match self.queue.pop().await {
            Some(arrival) => self.take(arrival),
            None => self.is_last = true,
        }
    }

    fn take(&mut self, (came, event): Arrival<T>) {
        match (self.deadline)(&event.meta) {
            Ok(deadline) => {
                let length = (self.length)(&event.value);
                self.waiting.push(Waiting { event, came, deadline, length });
            }
            Err(failure) => self.stage.fail(event.receipt, failure),
        }
    }

    /// Fails the events whose deadline has passed.
    fn expire(&mut self) {
        let now = Instant::now();
        let mut failures = Vec::new();
        let is_late = |one: &mut Waiting<T>| {
            if one.deadline.is_none_or(|deadline| now < deadline) {
                return false;
            }
            // `deadline` is asked again, because it may use another clock, such as the wall clock,
            // by which the deadline has not passed.
            match (self.deadline)(&one.event.meta) {
                Ok(deadline) => {
                    one.deadline = deadline;
                    false
                }
                Err(failure) => {
                    failures.push(failure);
                    true
                }
            }
        };
        let late: Vec<_> = self.waiting.extract_if(.., is_late).collect();
        for (one, failure) in late.into_iter().zip(failures) {
            self.stage.fail(one.event.receipt, failure);
        }
    }

    /// Returns the time until which more events are gathered before a batch is dispatched, and the
    /// reason why the batch is dispatched then.
    fn wait_until(&self) -> (Instant, Reason) {
        let now = Instant::now();
        let AdaptiveWindow { max_wait, max_size, max_cost } = self.limits;
        let Some(oldest) = self.waiting.first().filter(|_| !max_wait.is_zero()) else {
            return (now, Reason::Idle);
        };
        if self.waiting.len() >= max_size.get() {
            return (now, Reason::Size);
        }
        let load = self.waiting.iter().map(|one| one.length).collect();
        if self.costs.shapes().elements(load) >= max_cost {
            return (now, Reason::Cost);
        }
        let patient = (later(oldest.came, max_wait), Reason::Wait);
        let deadline = self.waiting.iter().filter_map(|one| one.deadline).min();
        // A millisecond is added, because timers fire up to a millisecond late.
        let takes = self.costs.predict(load).saturating_add(Duration::from_millis(1));
        let in_time = |deadline: Instant| deadline.checked_sub(takes);
        let in_time = deadline.map(|deadline| (in_time(deadline).unwrap_or(now), Reason::Deadline));
        in_time.into_iter().chain([patient]).min_by_key(|(at, _)| *at).unwrap_or(patient)
    }

    /// Removes the next batch from the waiting events. Its members stay in the order in which they
    /// came.
    fn dispatch(&mut self, reason: Reason) -> Vec<Event<T>> {
        let candidates: Vec<_> = self.waiting.iter().map(Waiting::candidate).collect();
        let choice = choose(&candidates, self.limits, &self.costs);
        let mut is_member = choice.is_member.into_iter();
        let members = self.waiting.extract_if(.., |_| is_member.next().unwrap_or(false));
        let (came, members): (Vec<_>, Vec<_>) =
            members.map(|member| (member.came, member.event)).unzip();
        let waited = came.first().map(Instant::elapsed).unwrap_or_default();
        let reason = match choice.limit {
            Some(Limit::Size) => Reason::Size,
            Some(Limit::Cost) => Reason::Cost,
            None => reason,
        };
        self.dispatches.count_after(reason, members.len(), waited);
        self.measures.count(choice.load, &self.costs, &came);
        members
    }
}

#[cfg(test)]
mod tests;

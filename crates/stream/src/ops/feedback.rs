//! `feedback`: a loop, the only way in which events can go back to an earlier stage.

use std::fmt;
use std::future::{Future, pending};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, ready};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use futures::{FutureExt as _, poll};
use tokio::task::coop;

use crate::loops::Loop;
use crate::pump::{GiveWay, Pump};
use crate::queue::Queue;
use crate::{Event, Failure, Flow, Node, NodeKind, codes};

/// How often an event may go round a loop, unless [`Feedback::max_turns`] is called.
const MAX_TURNS: NonZeroU32 = NonZeroU32::new(10_000).expect("10,000 is not 0");

impl<T: Send + 'static> Flow<T> {
    /// Opens a loop: the returned flow has this flow's events and those that [`Feedback::connect`]
    /// sends back to it. To retry failed events, send back the failures of [`catch`](Flow::catch).
    ///
    /// An event is inside the loop from when the returned flow emits it until its receipt is
    /// resolved, or until it passes an exit that [`Feedback::connect`] or [`Feedback::leave`] made.
    /// If an operator inside makes several events of one, each of them counts. Exception: if a
    /// `catch` is inside the loop, an event that has passed it counts as inside until its receipt
    /// is resolved, even after it has left through an exit, because its failure may come back.
    ///
    /// - **Emits** this flow's events and those that have come back, unchanged. Events that have
    ///   come back go first.
    /// - **Backpressures** when downstream does, and while `capacity` events are inside the loop.
    ///   An event that comes back never waits for room: if it did, a loop that multiplies its
    ///   events would block itself. Up to `capacity` events that have come back are queued.
    /// - **Completes** when this flow has completed and no event is inside the loop. An operator
    ///   inside must therefore emit the events that it holds without waiting for more: a window
    ///   needs a timeout, and an operator that keeps its newest event, such as
    ///   [`combine_latest`](Flow::combine_latest), must not be inside.
    /// - **On failure**: an event that comes back while `capacity` events are queued fails, with
    ///   `feedback_full`. One that has gone round the loop 10,000 times, or as often as
    ///   [`max_turns`](Feedback::max_turns) says, fails with `feedback_turns`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let capacity = at_most(8);
    /// let (numbers, feedback) = Flow::from_iter([1, 5, 40]).feedback(capacity);
    /// let (small, large) = numbers.map(|number| number * 3).split(|number| *number < 100, capacity);
    /// let mut grown = feedback.connect(small, large).collect().await?;
    /// grown.sort_unstable();
    /// assert_eq!(grown, [120, 135, 243]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// The returned flow panics when it is run outside of a tokio runtime.
    #[must_use = "a loop that is not connected sends nothing back"]
    pub fn feedback(self, capacity: NonZeroUsize) -> (Self, Feedback<T>) {
        let the_loop = Loop::new(capacity.get());
        let mut back = None;
        let head = self.0.holding().apply_node(NodeKind::Junction, "feedback", |upstream, node| {
            let queue = Arc::new(Queue::new(capacity, node.depth_gauge()));
            back = Some((Arc::clone(&queue), node.clone()));
            admit(upstream, queue, Arc::clone(&the_loop))
        });
        let (queue, node) = back.expect("`apply_node` calls its operator");
        let feedback = Feedback {
            the_loop,
            queue,
            node,
            max_turns: MAX_TURNS,
            stop: pending().boxed(),
            carrier: Arc::default(),
        };
        (Self(head), feedback)
    }
}

/// A loop that [`Flow::feedback`] has opened, which has to be [connected](Feedback::connect).
#[must_use = "a loop that is not connected sends nothing back"]
pub struct Feedback<T> {
    the_loop: Arc<Loop>,
    queue: Arc<Queue<Event<T>>>,
    /// The node of the operator at which events enter the loop.
    node: Node,
    max_turns: NonZeroU32,
    stop: BoxFuture<'static, ()>,
    // The task that sends events back. It owns the flow `again`, and with it the operators inside
    // the loop. The exits own the task: if an operator inside owned it, the two would own each
    // other, and neither would ever be dropped.
    carrier: Arc<OnceLock<Pump>>,
}

impl<T> fmt::Debug for Feedback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback").field("stage", self.node.name()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Feedback<T> {
    /// Sets how often an event may go round the loop. After that it fails with `feedback_turns`, so
    /// that a loop whose operators never let an event out does not run for ever. An event that is
    /// made of another one inside the loop takes over its turns.
    pub fn max_turns(self, max_turns: NonZeroU32) -> Self {
        Self { max_turns, ..self }
    }

    /// Ends the loop when `stop` completes, for a program that shuts down: an event that comes back
    /// after that does not enter the loop again. It is dropped, so its input counts as
    /// [abandoned](crate::Outcome::Abandoned), and is read again at the next start. Events that
    /// pass an exit are not affected.
    pub fn until(self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { stop: stop.boxed(), ..self }
    }

    /// Closes the loop: a task sends the events of `again` back to the beginning of the loop, and
    /// the events of `out` leave the loop. Both flows must come out of the loop, for example from a
    /// [`split`](Flow::split).
    ///
    /// Dropping all exits ends the task.
    pub fn connect<U: Send + 'static>(self, mut again: Flow<T>, out: Flow<U>) -> Flow<U> {
        again.0.lead_to(&self.node);
        let mut out = self.leave(out).0;
        let (mut events, again_tail) = out.absorb(again.0);
        out.graph.connect(again_tail, self.node.id());

        let Self { the_loop, queue, node, carrier, max_turns, mut stop } = self;
        let name = Arc::clone(node.name());
        let stage = node.stage().clone();
        let carry = async move {
            let mut is_stopping = false;
            let mut give_way = GiveWay::new();
            while let Some(mut event) = give_way.wait(events.next()).await {
                is_stopping = is_stopping || poll!(&mut stop).is_ready();
                if !is_stopping && event.receipt.enter(&the_loop) > max_turns.get() {
                    let failure = Failure::new(
                        codes::FEEDBACK_TURNS,
                        format_args!("the value has gone round the loop {max_turns} times"),
                    );
                    stage.fail(event.receipt, failure);
                } else if !is_stopping && let Some(event) = queue.try_push(event) {
                    let failure =
                        Failure::new(codes::FEEDBACK_FULL, "the loop makes too many events");
                    stage.fail(event.receipt, failure);
                }
                give_way.after_event().await;
            }
        };
        carrier.get_or_init(|| Pump::new(name, out.fault.clone(), carry, ()));
        Flow(out)
    }

    /// Makes a further exit of the loop: the events of `exit` leave the loop, and no longer count
    /// as inside.
    pub fn leave<U: Send + 'static>(&self, exit: Flow<U>) -> Flow<U> {
        let mut exit = exit.0;
        let mut events = std::mem::replace(&mut exit.stream, stream::empty().boxed());
        let the_loop = Arc::clone(&self.the_loop);
        let carrier = Arc::clone(&self.carrier);
        exit.stream = stream::poll_fn(move |cx| {
            if let Some(carrier) = carrier.get() {
                carrier.start();
            }
            let mut event = ready!(events.poll_next_unpin(cx));
            if let Some(event) = &mut event {
                event.receipt.leave(&the_loop);
            }
            Poll::Ready(event)
        })
        .boxed();
        Flow(exit)
    }
}

/// The head of the loop. It emits new events only when no event that has come back is waiting.
fn admit<T: Send + 'static>(
    upstream: BoxStream<'static, Event<T>>,
    queue: Arc<Queue<Event<T>>>,
    the_loop: Arc<Loop>,
) -> impl stream::Stream<Item = Event<T>> + Send + 'static {
    let mut upstream = upstream.fuse();
    stream::poll_fn(move |cx| {
        // Counts against tokio's budget, so that the task yields: events that go round and round
        // can keep a loop busy for ever, and they do not pass a source, which would use budget for
        // them.
        let progress = ready!(coop::poll_proceed(cx));
        if let Poll::Ready(Some(event)) = queue.poll_pop(cx) {
            progress.made_progress();
            return Poll::Ready(Some(event));
        }
        if the_loop.inside.poll_room(cx).is_ready()
            && let Poll::Ready(Some(mut event)) = upstream.poll_next_unpin(cx)
        {
            event.receipt.enter(&the_loop);
            return Poll::Ready(Some(event));
        }
        if upstream.is_done() {
            the_loop.inside.poll_empty(cx).map(|()| None)
        } else {
            Poll::Pending
        }
    })
}

#[cfg(test)]
mod tests;

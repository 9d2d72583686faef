//! `buffer` and `latest`: run upstream in its own task, so that it can go on while downstream is
//! busy.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use crate::pump::{GiveWay, Pump};
use crate::queue::{Closing, Queue};
use crate::stage::Stage;
use crate::{Event, Failure, Flow, NodeKind, codes};

/// The behaviour of a full [`buffer`](Flow::buffer) when the next event comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The buffer waits for room before it asks upstream for the next event.
    #[default]
    Wait,
    /// The event that has waited longest is discarded. Its receipt is resolved as done: a discarded
    /// event counts as handled.
    DropOldest,
    /// The new event is discarded. Its receipt is resolved as done: a discarded event counts as
    /// handled.
    DropNewest,
    /// The new event fails, with the code `buffer_full`.
    Fail,
}

impl<T: Send + 'static> Flow<T> {
    /// Lets upstream go on in a separate task while downstream is busy, up to `capacity` events
    /// ahead. The number of events that wait is the node's [`depth`](crate::Node::depth).
    ///
    /// - **Emits** the events in order, without those that `overflow` discards.
    /// - **Backpressures** with [`Overflow::Wait`] while it is full, otherwise never; holds at most
    ///   `capacity` events.
    /// - **Completes** when upstream completes, after the events it holds.
    /// - **On failure**: if upstream panics, the flow ends once the waiting events have been
    ///   emitted, and [`Pipeline::run`](crate::Pipeline::run) returns the panic as an error.
    ///   Dropping the flow aborts the task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, Overflow, at_most};
    ///
    /// let two = at_most(2);
    /// assert_eq!(Flow::from_iter(0..4).buffer(two, Overflow::Wait).collect().await?, [0, 1, 2, 3]);
    /// assert_eq!(Flow::from_iter(0..4).buffer(two, Overflow::DropOldest).collect().await?, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    pub fn buffer(self, capacity: NonZeroUsize, overflow: Overflow) -> Self {
        self.buffered("buffer", capacity, overflow)
    }

    /// Keeps the newest event only: a slow consumer gets the event that is newest when it asks, and
    /// in the end always the last event. To keep more than one, see [`buffer`](Flow::buffer).
    ///
    /// - **Emits** the newest event that has not been emitted.
    /// - **Backpressures** never, because upstream runs in a separate task; holds at most one
    ///   event.
    /// - **Completes** when upstream completes, after the last event.
    /// - **On failure** as in [`buffer`](Flow::buffer).
    /// - **Settles** the receipt of a waiting event as done when a newer event replaces it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter(0..4).latest().collect().await?, [3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    pub fn latest(self) -> Self {
        self.buffered("latest", NonZeroUsize::MIN, Overflow::DropOldest)
    }

    fn buffered(self, name: &'static str, capacity: NonZeroUsize, overflow: Overflow) -> Self {
        let fault = self.0.fault.clone();
        Self(self.0.holding().apply_node(NodeKind::Element, name, |mut events, node| {
            let queue = Arc::new(Queue::new(capacity, node.depth_gauge()));
            let into = Arc::clone(&queue);
            let stage = node.stage().clone();
            let carry = async move {
                let mut give_way = GiveWay::new();
                loop {
                    if overflow == Overflow::Wait {
                        give_way.wait(into.room()).await;
                    }
                    let Some(event) = give_way.wait(events.next()).await else { break };
                    push(&into, event, overflow, &stage);
                    give_way.after_event().await;
                }
            };
            let end = Closing(Arc::clone(&queue));
            let pump = Pump::new(Arc::clone(node.name()), fault, carry, end);
            stream::unfold((queue, pump), |(queue, pump)| async move {
                pump.start();
                // If the queue always has an event, downstream must not keep other tasks from
                // running.
                tokio::task::consume_budget().await;
                Some((queue.pop().await?, (queue, pump)))
            })
            .fuse()
        }))
    }
}

/// Adds an event. If that discards an event, resolves its receipt after the queue's lock is free
/// again: resolving can run the source's [`Settle::settle`](crate::Settle::settle), and downstream
/// would wait for the lock meanwhile.
fn push<T>(queue: &Queue<Event<T>>, event: Event<T>, overflow: Overflow, stage: &Stage) {
    let discarded = match overflow {
        Overflow::DropOldest => queue.force_push(event),
        Overflow::Wait | Overflow::DropNewest | Overflow::Fail => queue.try_push(event),
    };
    let Some(event) = discarded else { return };
    if overflow == Overflow::Fail {
        let failure = Failure::new(codes::BUFFER_FULL, "downstream is too slow; try again later");
        stage.fail(event.receipt, failure);
    } else {
        stage.discard(event.receipt);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, sleep_until, timeout};

    use super::Overflow;
    use crate::testing::{Tracked, block_on, size};
    use crate::{Flow, Outcome, PipelineError};

    const MODES: [Overflow; 4] =
        [Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest, Overflow::Fail];

    proptest! {
        #[test]
        fn overflow_decides_which_events_of_a_burst_are_kept(
            count in 0_usize..30, capacity in 1_usize..8, mode in 0_usize..4,
        ) {
            let (flow, outcomes) = Tracked::flow(0..count);
            let seen = block_on(flow.buffer(size(capacity), MODES[mode]).collect()).unwrap();
            let kept = count.min(capacity);
            let expected = match MODES[mode] {
                Overflow::Wait => 0..count,
                Overflow::DropOldest => count - kept..count,
                Overflow::DropNewest | Overflow::Fail => 0..kept,
            };
            prop_assert_eq!(seen, expected.collect::<Vec<_>>());
            let refused = if MODES[mode] == Overflow::Fail { "buffer_full" } else { "done" };
            let codes = (0..count).map(|number| if number < kept { "done" } else { refused });
            prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upstream_works_while_downstream_is_busy() {
        let start = Instant::now();
        let slow = || async { sleep(Duration::from_millis(10)).await };
        let upstream = Flow::from_stream(stream::iter(0..10).then(move |number| async move {
            slow().await;
            number
        }));
        let flow = upstream.buffer(size(1), Overflow::Wait);
        let flow = flow.map_async(
            move |number| async move {
                slow().await;
                Ok(number)
            },
            size(1),
        );
        assert_eq!(flow.collect().await.unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(
            start.elapsed(),
            Duration::from_millis(110),
            "one after the other it would take 200 ms"
        );
    }

    /// Returns the names of the events in the order in which a slow function and the sink, on both
    /// sides of `between`, see them on one thread.
    async fn seen_by_a_slow_function_and_the_sink(
        between: impl FnOnce(Flow<u32>) -> Flow<u32>,
    ) -> Vec<String> {
        let (log, seen) = std::sync::mpsc::channel();
        let slow = log.clone();
        let flow = Flow::from_iter(0..6).map(move |number: u32| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
            slow.send(format!("made {number}")).unwrap();
            number
        });
        let sink = move |number| log.send(format!("took {number}")).unwrap();
        between(flow).sink_fn(sink).run().await.unwrap();
        seen.iter().collect()
    }

    #[tokio::test]
    async fn a_slow_function_before_a_buffer_does_not_hold_up_the_events_behind_it_e4() {
        let buffered = |flow: Flow<u32>| flow.buffer(size(9), Overflow::Wait);
        let seen = seen_by_a_slow_function_and_the_sink(buffered).await;
        let expected = (0..6).flat_map(|n| [format!("made {n}"), format!("took {n}")]);
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_buffer_stops_upstream_and_shows_its_depth() {
        let (flow, outcomes) = Tracked::flow(0..100);
        let flow = flow.buffer(size(3), Overflow::Wait);
        let graph = flow.graph().clone();
        let mut events = flow.0.stream;
        let first = events.next().await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(first.value, 0);
        assert_eq!(outcomes.codes(), ["open"; 4], "one is out, three wait");
        assert_eq!(graph.nodes()[1].depth(), 3);
        drop((first, events));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(outcomes.codes(), ["abandoned"; 4], "the task is gone with the flow");
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_flow_aborts_the_task() {
        let held = Arc::new(());
        let watch = Arc::downgrade(&held);
        let waits = stream::once(async move {
            pending::<()>().await;
            drop(held);
        });
        let run = Flow::from_stream(waits).buffer(size(1), Overflow::Wait).collect();
        assert!(timeout(Duration::from_secs(1), run).await.is_err());
        sleep(Duration::from_millis(1)).await;
        assert!(watch.upgrade().is_none());
    }

    #[tokio::test]
    async fn the_run_returns_a_panic_that_happened_upstream_of_the_buffer() {
        let (flow, outcomes) = Tracked::flow(0..9);
        let flow = flow.map(|number| {
            assert!(number < 2, "number {number} is too much");
            number
        });
        let (seen, values) = std::sync::mpsc::channel();
        let flow = flow.named("ahead").buffer(size(9), Overflow::Wait);
        let error = flow.sink_fn(move |value| seen.send(value).unwrap()).run().await.unwrap_err();
        assert!(matches!(error, PipelineError::Panicked { .. }), "{error:?}");
        assert_eq!(error.to_string(), "the stage `map` panicked: number 2 is too much");
        assert_eq!(values.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(outcomes.codes(), ["done", "done", "abandoned"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_consumer_gets_the_newest_event_and_always_the_last() {
        let start = Instant::now();
        let (flow, outcomes) =
            Tracked::stream(stream::iter(0..=10_u64).then(move |number| async move {
                sleep_until(start + Duration::from_millis(10 * number)).await;
                number
            }));
        let slow = |number| async move {
            sleep(Duration::from_millis(36)).await;
            Ok(number)
        };
        let seen = flow.latest().map_async(slow, size(1)).collect().await.unwrap();
        assert_eq!(seen, [0, 3, 7, 10]);
        assert_eq!(outcomes.all(), [const { Outcome::Done }; 11]);
    }
}

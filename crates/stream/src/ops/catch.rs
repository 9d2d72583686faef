//! `catch`: sends the failures of everything downstream to a second flow.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Poll, ready};

use futures::stream::{self, StreamExt as _};

use crate::outbox::{Sender, outbox};
use crate::{Event, Failure, Flow, Meta, Node, NodeKind, Outcome, Receipt, Settle, Ticket};

/// An input that failed, with the value that it had at [`Flow::catch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<T> {
    /// The reason, and the stage at which it failed.
    pub failure: Failure,
    /// The value that could not be processed.
    pub input: T,
}

/// The moment at which a failure leaves [`Flow::catch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// As soon as it is known.
    AtOnce,
    /// When all earlier inputs are resolved, so that answers come in input order. If more failures
    /// than the capacity wait behind an input that stays unresolved, they leave before that input
    /// is resolved.
    InOrder,
}

impl<T: Clone + Send + Sync + 'static> Flow<T> {
    /// Splits the flow in two: the first flow has all events, the second has the failures of those
    /// events that fail anywhere downstream of the first.
    ///
    /// The receipt of a failed event goes to the second flow unresolved: the input is done when its
    /// failure has been handled (by an error reply or a dead letter). Afterwards,
    /// [`rejoin`](Flow::rejoin) merges both flows. In this way, each input is answered once, by a
    /// result or by its failure.
    ///
    /// - **Emits** every event in the first flow, and in the second flow one [`Failed`] for each
    ///   event that failed.
    /// - **Backpressures** when downstream does, and while `capacity` failures wait to be taken
    ///   from the second flow; with [`Release::InOrder`], as many again can wait for their turn.
    ///   Events that passed before the limit was reached can still fail, so more failures can be
    ///   held; the source and the operators downstream limit their number. Both flows must be run.
    /// - **Completes** when upstream completes. The second flow completes when, in addition, every
    ///   event is resolved.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Failure, Flow, Release, at_most};
    ///
    /// let capacity = at_most(100);
    /// let (numbers, failures) = Flow::from_iter(["1", "two"]).catch(capacity, Release::InOrder);
    /// let numbers = numbers.try_map(|text| text.parse::<i32>().map_err(|e| Failure::new("not_a_number", e)));
    /// let answers = numbers.map(|n| n.to_string()).rejoin(failures.map(|failed| failed.failure.to_string()));
    /// assert_eq!(answers.collect().await?, ["1", "not_a_number: invalid digit found in string (at try_map)"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn catch(self, capacity: NonZeroUsize, release: Release) -> (Self, Flow<Failed<T>>) {
        let (sender, mut taker) = outbox(capacity.get(), release == Release::InOrder);
        let events = self.0.apply(NodeKind::Junction, "catch", |mut upstream, _| {
            // Dropped when upstream ends. The second flow ends once all clones, which the receipts
            // own, are dropped too.
            let mut sender = Some(sender);
            stream::poll_fn(move |cx| {
                let Some(sending) = &sender else { return Poll::Ready(None) };
                ready!(sending.poll_room(cx));
                let event = ready!(upstream.poll_next_unpin(cx));
                let wrapped = event.map(|event| wrap(event, sending.clone()));
                if wrapped.is_none() {
                    sender = None;
                }
                Poll::Ready(wrapped)
            })
        });
        let failures = stream::poll_fn(move |cx| taker.poll_take(cx));
        let failures = events.aside(Node::new(NodeKind::Junction, "failures"), failures);
        (Self(events), Flow(failures))
    }
}

/// Gives the event a new receipt, which turns a failure into an event of the second flow and passes
/// on any other outcome.
fn wrap<T: Clone + Send + Sync + 'static>(
    event: Event<T>,
    failures: Sender<Event<Failed<T>>>,
) -> Event<T> {
    let (value, Event { meta, receipt, .. }) = event.take();
    let ticket = failures.open();
    let receipt = receipt.wrapped(|receipt| {
        let (input, meta) = (value.clone(), Arc::clone(&meta));
        Caught { input, meta, receipt, ticket, failures }
    });
    Event { value, meta, receipt }
}

/// Receives the outcome of an event that passed [`Flow::catch`].
struct Caught<T> {
    input: T,
    meta: Arc<Meta>,
    receipt: Receipt,
    ticket: Option<Ticket>,
    failures: Sender<Event<Failed<T>>>,
}

impl<T: Send + Sync + 'static> Settle for Caught<T> {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { input, meta, receipt, ticket, failures } = *self;
        let failed = match outcome {
            Outcome::Failed(failure) => {
                Some(Event { value: Failed { failure, input }, meta, receipt })
            }
            Outcome::Done | Outcome::Abandoned => {
                receipt.resolve(outcome);
                None
            }
        };
        failures.send(ticket, failed);
    }

    fn stands_for(&self) -> &[Receipt] {
        std::slice::from_ref(&self.receipt)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{sleep, timeout};

    use super::{Failed, Release};
    use crate::testing::{Tracked, block_on, size};
    use crate::{Event, Failure, Flow, Outcome, Receipt, Settle};

    fn answers(flow: Flow<u8>, release: Release, window: usize) -> Vec<String> {
        let (flow, failures) = flow.catch(size(64), release);
        let results = flow
            .timed_window(Duration::from_millis(5), size(window))
            .flatten()
            .try_map(
                |value| if value % 3 == 0 { Err(Failure::new("three", value)) } else { Ok(value) },
            )
            .map(|value| value.to_string());
        let errors = failures.map(|Failed { input, .. }| format!("{input}!"));
        block_on(results.rejoin(errors).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn every_input_is_answered_once_and_in_order(values: Vec<u8>, window in 1_usize..9) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let expected: Vec<_> = values
                .iter()
                .map(|value| if value % 3 == 0 { format!("{value}!") } else { value.to_string() })
                .collect();
            prop_assert_eq!(answers(flow, Release::InOrder, window), expected);
            prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        }

        #[test]
        fn every_input_is_answered_once_without_order(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            prop_assert_eq!(answers(flow, Release::AtOnce, 4).len(), values.len());
            prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        }
    }

    fn refuse(number: u32) -> Result<u32, Failure> {
        if number == 0 { Ok(number) } else { Err(Failure::new("no", number)) }
    }

    #[tokio::test(start_paused = true)]
    async fn upstream_waits_while_capacity_failures_wait_to_be_taken() {
        let (flow, outcomes) = Tracked::flow(1..100);
        let (flow, failures) = flow.catch(size(3), Release::AtOnce);
        let results = tokio::spawn(flow.try_map(refuse).collect());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(outcomes.codes(), ["open"; 3], "no failure has been taken yet");
        assert_eq!(failures.collect().await.unwrap().len(), 99);
        assert!(results.await.unwrap().unwrap().is_empty());
        assert_eq!(outcomes.codes(), ["done"; 99]);
    }

    #[test]
    fn a_window_may_hold_more_than_the_capacity() {
        for release in [Release::AtOnce, Release::InOrder] {
            let (flow, _failures) = Flow::from_iter(0..100).catch(size(3), release);
            let lists = block_on(flow.partition(size(50), None).into_lists().collect()).unwrap();
            assert_eq!(lists.len(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_behind_an_unresolved_input_leave_before_it_once_they_exceed_the_capacity() {
        let (flow, _outcomes) = Tracked::stream(stream::iter(0..9).chain(stream::pending()));
        let (flow, failures) = flow.catch(size(3), Release::InOrder);
        // Number 0 waits in a window of two for another event, which does not come.
        let held = flow.try_map(refuse).partition(size(2), None).into_lists().map(|_| Vec::new());
        let inputs = failures.map(|failed| vec![failed.input]);
        let (seen, values) = mpsc::channel();
        let run = held.rejoin(inputs).sink_fn(move |inputs| seen.send(inputs).unwrap()).run();
        assert!(timeout(Duration::from_secs(1), run).await.is_err());
        assert_eq!(values.try_iter().flatten().collect::<Vec<_>>(), (1..9).collect::<Vec<_>>());
    }

    #[test]
    fn failures_are_abandoned_and_hold_up_nothing_if_their_flow_is_dropped() {
        for release in [Release::AtOnce, Release::InOrder] {
            let (flow, outcomes) = Tracked::flow(0..9);
            let (flow, failures) = flow.catch(size(1), release);
            drop(failures);
            assert_eq!(block_on(flow.try_map(refuse).collect()).unwrap(), [0]);
            assert_eq!(outcomes.codes()[0], "done");
            assert_eq!(outcomes.codes()[1..], ["abandoned"; 8]);
        }
    }

    #[test]
    fn the_source_of_an_input_is_found_from_events_after_catch() {
        struct Offset(u32);
        impl Settle for Offset {
            fn settle(self: Box<Self>, _outcome: Outcome) {}
        }
        let events = (0..3).map(|n| Event {
            value: n,
            receipt: Receipt::of(Offset(n)),
            meta: Arc::default(),
        });
        let flow = Flow::from_try_events("offsets", stream::iter(events.map(Ok::<_, Infallible>)));
        let (flow, _failures) = flow.catch(size(9), Release::AtOnce);
        let lists =
            block_on(flow.partition(size(2), None).into_lists().0.stream.collect::<Vec<_>>());
        let offsets = lists.iter().map(|list| {
            let mut offsets = Vec::new();
            list.receipt.visit(&mut |offset: &Offset| offsets.push(offset.0));
            offsets
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn the_second_flow_ends_when_slice_ends_the_first_flow_before_its_input() {
        let (flow, failures) = Flow::from_iter(0..).catch(size(9), Release::InOrder);
        let odd = |value| if value % 2 == 1 { Ok(value) } else { Err(Failure::new("even", value)) };
        let some = flow.slice(0, Some(4), size(1)).try_map(odd).map(|value| value.to_string());
        let answers = some.rejoin(failures.map(|failed| failed.failure.code().to_owned()));
        assert_eq!(block_on(answers.collect()).unwrap(), ["even", "1", "even", "3"]);
    }
}

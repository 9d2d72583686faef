//! `catch`: failures of everything downstream become a flow of their own.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::stream::{self, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{Event, Failure, Flow, InOrder, Meta, Node, NodeKind, Outcome, Receipt};

/// An input that failed, with the value that it had at [`Flow::catch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<T> {
    /// Why, and at which stage.
    pub failure: Failure,
    /// The value that could not be processed.
    pub input: T,
}

/// When a failure leaves [`Flow::catch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// As soon as it is known.
    AtOnce,
    /// When every input before it is resolved, so that its answer stands in its place among the others.
    InOrder,
}

type Failures<T> = mpsc::Sender<(Event<Failed<T>>, OwnedSemaphorePermit)>;

impl<T: Clone + Send + Sync + 'static> Flow<T> {
    /// Splits the flow in two: the events, and those of them that fail anywhere downstream.
    ///
    /// A failed event's receipt goes to the second flow unresolved: the input is over when its failure has been dealt
    /// with (an error reply, a dead letter), after which [`rejoin`](Flow::rejoin) brings both together. So each input is answered once, by a result or by its failure.
    ///
    /// - **Emits** every event; in the second flow one [`Failed`] for each that failed.
    /// - **Backpressures** when downstream does, and while `capacity` events are unresolved between here and their
    ///   sink; holds at most that many. Both flows must be run, and `capacity` must exceed what later windows gather.
    /// - **Completes** when upstream completes; the second flow when every event has been resolved as well.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    ///
    /// use forebay_stream::{Failure, Flow, Release};
    ///
    /// let capacity = NonZeroUsize::new(100).expect("100 is not 0");
    /// let (numbers, failures) = Flow::from_iter(["1", "two"]).catch(capacity, Release::InOrder);
    /// let numbers = numbers.try_map(|text| text.parse::<i32>().map_err(|e| Failure::new("not_a_number", e)));
    /// let answers = numbers.map(|n| n.to_string()).rejoin(failures.map(|failed| failed.failure.to_string()));
    /// assert_eq!(answers.collect().await?, ["1", "not_a_number: invalid digit found in string (at try_map)"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn catch(self, capacity: NonZeroUsize, release: Release) -> (Self, Flow<Failed<T>>) {
        // Tokio's own limit is beyond any memory.
        let capacity = capacity.get().min(Semaphore::MAX_PERMITS);
        let (failures, mut caught) = mpsc::channel(capacity);
        let permits = Arc::new(Semaphore::new(capacity));
        let order = (release == Release::InOrder).then(|| Arc::new(Mutex::new(InOrder::new())));

        let events = self.0.apply(NodeKind::Junction, "catch", |events, _| {
            // The state, and with it this end of the failures' channel, is dropped when upstream ends.
            stream::unfold((events, failures), move |(mut events, failures)| {
                let (permits, order) = (Arc::clone(&permits), order.clone());
                async move {
                    let event = events.next().await?;
                    let permit = permits.acquire_owned().await.ok();
                    Some((wrap(event, permit, failures.clone(), order), (events, failures)))
                }
            })
        });

        // `try_recv` first: `poll_recv` alone has tokio's budget for a task, and may be pending with a failure there.
        let failures = stream::poll_fn(move |cx| match caught.try_recv() {
            Ok(failed) => Poll::Ready(Some(failed)),
            Err(_) => caught.poll_recv(cx),
        });
        let failures = failures.map(|(event, _permit)| event);
        let failures = events.aside(Node::new(NodeKind::Junction, "failures"), failures);
        (Self(events), Flow(failures))
    }
}

type Order<T> = Option<Arc<Mutex<InOrder<Settled<T>>>>>;

/// What is left of a settled input until its turn comes; `None` where nothing has to be said.
type Settled<T> = Option<(Event<Failed<T>>, OwnedSemaphorePermit)>;

/// Gives the event a receipt of its own, which turns a failure into an event and passes on any other outcome.
fn wrap<T: Clone + Send + Sync + 'static>(
    event: Event<T>,
    permit: Option<OwnedSemaphorePermit>,
    failures: Failures<T>,
    order: Order<T>,
) -> Event<T> {
    let (value, Event { meta, receipt, .. }) = event.take();
    let input = value.clone();
    let origin = Arc::clone(&meta);
    let ticket = order.as_ref().map(|order| lock(order).open());

    let receipt = Receipt::new(move |outcome| {
        let settled = settle(outcome, input, origin, receipt).zip(permit);
        // The lock is released before anything leaves: what leaves may settle other inputs in turn.
        let released: Vec<_> = match order.as_ref().zip(ticket) {
            Some((order, ticket)) => lock(order).complete(ticket, settled).flatten().collect(),
            None => settled.into_iter().collect(),
        };
        for failed in released {
            // There is a permit, and so a place, for each; the receiver is gone only when the flow has been dropped,
            // and then the receipt inside is dropped too and the input counts as abandoned.
            drop(failures.try_send(failed));
        }
    });
    Event { value, meta, receipt }
}

fn settle<T>(
    outcome: Outcome,
    input: T,
    meta: Arc<Meta>,
    receipt: Receipt,
) -> Option<Event<Failed<T>>> {
    match outcome {
        Outcome::Failed(failure) => Some(Event { value: Failed { failure, input }, meta, receipt }),
        Outcome::Done | Outcome::Abandoned => {
            receipt.resolve(outcome);
            None
        }
    }
}

fn lock<T>(order: &Mutex<InOrder<T>>) -> std::sync::MutexGuard<'_, InOrder<T>> {
    order.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Failed, Release};
    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow};

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
        fn every_input_is_answered_once_and_in_its_place(values: Vec<u8>, window in 1_usize..9) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let expected: Vec<_> = values
                .iter()
                .map(|value| if value % 3 == 0 { format!("{value}!") } else { value.to_string() })
                .collect();
            prop_assert_eq!(answers(flow, Release::InOrder, window), expected);
            prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        }

        #[test]
        fn every_input_is_answered_once_without_order_too(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            prop_assert_eq!(answers(flow, Release::AtOnce, 4).len(), values.len());
            prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        }
    }

    #[test]
    fn no_more_than_the_capacity_is_unresolved() {
        let (flow, outcomes) = Tracked::flow(0..100);
        let (flow, _failures) = flow.catch(size(3), Release::AtOnce);
        let lists = flow.partition(size(50), None).into_lists().collect();
        let pulled = block_on(async { tokio::time::timeout(Duration::from_secs(1), lists).await });
        assert!(pulled.is_err(), "a window beyond the capacity waits for ever");
        assert_eq!(outcomes.codes().len(), 4, "three in flight, one waiting for a place");
    }
}

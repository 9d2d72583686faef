//! `branch` and `split`: one flow becomes several.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Semaphore, mpsc};

use crate::failure::infallible;
use crate::fork::Fork;
use crate::pump::Pump;
use crate::stage::Stage;
use crate::{Event, Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Sends every event to each of `N` flows: `let [a, b] = flow.branch(capacity)`. For a number
    /// of branches that is only known at run time, see [`branches`](Flow::branches); to send each
    /// event to one flow only, [`split`](Flow::split).
    ///
    /// - **Emits** in each branch every event, in order. Each copy carries a share of the event's
    ///   [`Receipt`](crate::Receipt): the input that the event comes from is done once every branch
    ///   is done with its copy.
    /// - **Backpressures** while `capacity` events wait in any branch. Holds at most `capacity`
    ///   waiting events per branch, plus the one event that is being sent. All branches must
    ///   therefore be run at the same time. If a branch is dropped, the other branches go on, but
    ///   every input whose copy it still held or would have got counts as abandoned.
    /// - **Completes** when upstream completes.
    /// - **On failure**: upstream runs in a separate task. If it panics, every branch ends after
    ///   the events it holds, and [`Pipeline::run`](crate::Pipeline::run) returns the panic, as in
    ///   [`buffer`](Flow::buffer).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    ///
    /// use forebay_stream::Flow;
    ///
    /// let capacity = NonZeroUsize::new(8).expect("8 is not 0");
    /// let [left, right] = Flow::from_iter([1, 2]).branch(capacity);
    /// let (left, right) = tokio::join!(left.collect(), right.map(|x| x * 10).collect());
    /// assert_eq!((left?, right?), (vec![1, 2], vec![10, 20]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    #[must_use = "a flow does nothing until it ends in a sink that is run"]
    pub fn branch<const N: usize>(self, capacity: NonZeroUsize) -> [Self; N]
    where
        T: Clone,
    {
        const { assert!(N > 0, "a flow has at least one branch") };
        let mut branches = fork_into(self, "branch", N, capacity, copy).into_iter();
        std::array::from_fn(|_| branches.next().expect("`fork_into` returns N flows"))
    }

    /// Sends every event to each of `count` flows, as [`branch`](Flow::branch) does.
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    #[must_use = "a flow does nothing until it ends in a sink that is run"]
    pub fn branches(self, count: NonZeroUsize, capacity: NonZeroUsize) -> Vec<Self>
    where
        T: Clone,
    {
        fork_into(self, "branch", count.get(), capacity, copy)
    }

    /// Sends each event to one of two flows: to the first if `first` is true for its value,
    /// otherwise to the second. To send every event to all flows, see [`branch`](Flow::branch).
    ///
    /// - **Emits** each event in one of the flows, unchanged and in order.
    /// - **Backpressures** while the flow that the next event goes to is full; the other flow then
    ///   gets no events either. Holds at most `capacity` waiting events per flow, plus the one
    ///   event that is being sent. Both flows must be run at the same time.
    /// - **Completes** both flows when upstream completes.
    /// - **On failure**: upstream runs in a separate task. If it panics, both flows end after the
    ///   events they hold, and [`Pipeline::run`](crate::Pipeline::run) returns the panic, as in
    ///   [`buffer`](Flow::buffer).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::num::NonZeroUsize;
    ///
    /// use forebay_stream::Flow;
    ///
    /// let capacity = NonZeroUsize::new(8).expect("8 is not 0");
    /// let (even, odd) = Flow::from_iter(0..5).split(|x| x % 2 == 0, capacity);
    /// let (even, odd) = tokio::join!(even.collect(), odd.collect());
    /// assert_eq!((even?, odd?), (vec![0, 2, 4], vec![1, 3]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    pub fn split(
        self,
        first: impl FnMut(&T) -> bool + Send + 'static,
        capacity: NonZeroUsize,
    ) -> (Self, Self) {
        self.try_split(infallible(first), capacity)
    }

    /// Sends each event to one of two flows as [`split`](Flow::split) does, with a function that
    /// can fail.
    ///
    /// - **On failure**: if `first` fails for an event, the event's receipt fails with that
    ///   failure, marked with the name of this stage; other events are not affected.
    ///
    /// # Panics
    ///
    /// When the flow is run outside of a tokio runtime.
    pub fn try_split(
        self,
        mut first: impl FnMut(&T) -> Result<bool, Failure> + Send + 'static,
        capacity: NonZeroUsize,
    ) -> (Self, Self) {
        let carry = |mut events: BoxStream<'static, Event<T>>,
                     senders: Senders<T>,
                     fork: Arc<Fork>,
                     stage: Stage| async move {
            while let Some(mut event) = events.next().await {
                let lane = match first(&event.value) {
                    Ok(true) => 0,
                    Ok(false) => 1,
                    Err(failure) => {
                        stage.fail(event.receipt, failure);
                        continue;
                    }
                };
                if let Some(number) = fork.enter() {
                    event.receipt.marks.add(&fork, lane, number);
                }
                // Sending to a flow that was dropped fails. The event is then discarded with its
                // receipt unresolved, so the input is abandoned.
                drop(senders[lane].send(event).await);
            }
        };
        let mut flows = fork_into(self, "split", 2, capacity, carry).into_iter();
        let mut next = || flows.next().expect("`fork_into` returns two flows");
        (next(), next())
    }
}

type Senders<T> = Arc<[mpsc::Sender<Event<T>>]>;

/// Sends a copy of each event to every branch. A branch gets its copy as soon as it has room, even
/// if other branches are full.
async fn copy<T: Clone + Send + 'static>(
    mut events: BoxStream<'static, Event<T>>,
    senders: Senders<T>,
    fork: Arc<Fork>,
    stage: Stage,
) {
    while let Some(event) = events.next().await {
        let mut copies: Vec<_> =
            senders.iter().skip(1).map(|_| event.derive(event.value.clone())).collect();
        stage.made(i64::try_from(copies.len()).unwrap_or(i64::MAX));
        copies.push(event);
        if let Some(number) = fork.enter() {
            for (lane, copy) in copies.iter_mut().enumerate() {
                copy.receipt.marks.add(&fork, lane, number);
            }
        }
        // Sending to a dropped branch fails. Its copy is then discarded with the receipt
        // unresolved, so the input is abandoned.
        drop(join_all(senders.iter().zip(copies).map(|(sender, copy)| sender.send(copy))).await);
    }
}

/// Turns one flow into `count` flows. A task that runs `carry` feeds them, and is aborted when all
/// of them are dropped.
fn fork_into<T, C>(
    flow: Flow<T>,
    operator_name: &'static str,
    count: usize,
    capacity: NonZeroUsize,
    carry: impl FnOnce(BoxStream<'static, Event<T>>, Senders<T>, Arc<Fork>, Stage) -> C,
) -> Vec<Flow<T>>
where
    T: Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    let mut trunk = flow.0.apply(NodeKind::Junction, operator_name, |events, _| events);
    let node = trunk.last().expect("`apply` adds its node to the graph");
    let stage = node.stage().clone();
    // The events leave through the branches.
    node.clear_outputs();
    let fault = trunk.fault.clone();

    let capacity = capacity.get().min(Semaphore::MAX_PERMITS);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::channel(capacity)).unzip();
    let senders: Senders<T> = senders.into();
    let events = std::mem::replace(&mut trunk.stream, stream::empty().boxed());
    let fork = Fork::new(count);
    let carried = carry(events, Arc::clone(&senders), Arc::clone(&fork), stage.clone());
    let pump = Arc::new(Pump::new(Arc::clone(stage.name()), fault, carried, senders));
    let branch = |(lane, mut receiver): (usize, mpsc::Receiver<Event<T>>)| {
        let pump = Arc::clone(&pump);
        let mut branch = trunk.beside(stream::poll_fn(move |cx| {
            pump.start();
            receiver.poll_recv(cx)
        }));
        branch.forks.pass(&fork, lane);
        Flow(branch)
    };
    receivers.into_iter().enumerate().map(branch).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::StreamExt as _;
    use proptest::prelude::*;
    use tokio::time::sleep;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow, PipelineError};

    proptest! {
        #[test]
        fn every_branch_gets_every_event_and_one_failure_fails_the_input(
            values: Vec<u8>, count in 1_usize..4, capacity in 1_usize..4,
        ) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let refuse = |value| if value % 3 == 0 { Err(Failure::new("three", value)) } else { Ok(value) };
            let mut branches = flow.branches(size(count), size(capacity));
            let picky = branches.pop().unwrap().try_map(refuse).collect();
            let others = futures::future::join_all(branches.into_iter().map(Flow::collect));
            let (picky, others) = block_on(async { tokio::join!(picky, others) });

            prop_assert_eq!(picky.unwrap(), values.iter().copied().filter(|v| v % 3 != 0).collect::<Vec<_>>());
            for seen in others {
                prop_assert_eq!(seen.unwrap(), values.clone());
            }
            let codes = values.iter().map(|v| if v % 3 == 0 { "three" } else { "done" });
            prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
        }

        #[test]
        fn if_the_function_fails_for_an_event_only_that_event_fails(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let way = |value: &u8| match value % 3 {
                0 => Err(Failure::new("three", value)),
                rest => Ok(rest == 1),
            };
            let (one, two) = flow.try_split(way, size(9));
            let (one, two) = block_on(async { tokio::join!(one.collect(), two.collect()) });
            let rest = |wanted| values.iter().copied().filter(|v| v % 3 == wanted).collect::<Vec<_>>();
            prop_assert_eq!((one.unwrap(), two.unwrap()), (rest(1), rest(2)));
            let codes = values.iter().map(|v| if v % 3 == 0 { "three" } else { "done" });
            prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
        }

        #[test]
        fn split_agrees_with_partition_of_iterators(values: Vec<u8>, capacity in 1_usize..4) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let (even, odd) = flow.split(|value| value % 2 == 0, size(capacity));
            let (even, odd) = block_on(async { tokio::join!(even.collect(), odd.collect()) });
            let expected: (Vec<_>, Vec<_>) = values.iter().partition(|value| **value % 2 == 0);
            prop_assert_eq!((even.unwrap(), odd.unwrap()), expected);
            prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_branch_that_is_not_polled_stops_the_others_at_its_capacity() {
        let (flow, outcomes) = Tracked::flow(0..100);
        let [left, right] = flow.branch(size(3));
        let (seen, values) = std::sync::mpsc::channel();
        let run = tokio::spawn(left.sink_fn(move |value| seen.send(value).unwrap()).run());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(values.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(outcomes.codes(), ["open"; 4], "three wait, and one is being sent");
        drop(right);
        run.await.unwrap().unwrap();
        assert_eq!(
            values.try_iter().count(),
            96,
            "a branch that was dropped does not hold up the others"
        );
        assert_eq!(outcomes.codes(), ["abandoned"; 100]);
    }

    #[tokio::test]
    async fn a_run_returns_a_panic_that_happened_upstream_of_the_branches() {
        let (flow, _outcomes) = Tracked::flow(0..3);
        let [left, right] = flow.inspect(|number| assert!(*number < 2)).branch(size(9));
        let both = left.union(right).collect().await;
        assert!(matches!(both, Err(PipelineError::Panicked { stage, .. }) if &*stage == "inspect"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_when_all_branches_are_dropped() {
        let (flow, outcomes) = Tracked::flow(0..100);
        let [left, right] = flow.branch(size(2));
        let mut left = left.0.stream;
        left.next().await.unwrap().receipt.done();
        drop((left, right));
        sleep(Duration::from_millis(1)).await;
        assert!(outcomes.codes().iter().all(|code| code == "abandoned"));
    }
}

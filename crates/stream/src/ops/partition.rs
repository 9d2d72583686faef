//! `partition`: batches of a given size, of all events or of each key. After a timeout, a batch
//! leaves although it is not full.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
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

impl<T: Send + 'static> Flow<T> {
    /// Gathers `size` events, or fewer when the first of them has waited for `timeout`. To emit at
    /// fixed times, see [`timed_window`](Flow::timed_window); for batches of one key each,
    /// [`partition_by`](Flow::partition_by).
    ///
    /// - **Emits** a batch when it has `size` events, or when `timeout` has passed since its first
    ///   event; later events do not extend the timeout. A batch is never empty.
    /// - **Backpressures** when downstream does; holds at most `size` events. A batch that is due
    ///   while downstream is busy keeps filling up to `size`.
    /// - **Completes** when upstream completes, after the events it holds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let three = at_most(3);
    /// let batches = Flow::from_iter(0..5).partition(three, None).into_lists();
    /// assert_eq!(batches.collect().await?, [vec![0, 1, 2], vec![3, 4]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn partition(self, size: NonZeroUsize, timeout: Option<Duration>) -> Batches<T> {
        self.partition_by(size, timeout, |_| ())
    }

    /// Gathers events of the same key into batches of `size`, as [`partition`](Flow::partition)
    /// does.
    ///
    /// - **Emits** a key's batch when it has `size` events, or when `timeout` has passed since its
    ///   first event.
    /// - **Backpressures** when downstream does; holds at most `size - 1` events for each key with
    ///   a batch that is not full. A key without waiting events takes no memory.
    /// - **Completes** when upstream completes, after the events it holds, the batch with the
    ///   oldest event first.
    pub fn partition_by<K, F>(
        self,
        size: NonZeroUsize,
        timeout: Option<Duration>,
        key: F,
    ) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> K + Send + 'static,
    {
        self.try_partition_by(size, timeout, infallible(key))
    }

    /// Gathers as [`partition_by`](Flow::partition_by) does, with a key function that can fail.
    ///
    /// - **On failure** of `key` that event's receipt fails, with this stage's name; other events
    ///   are not affected.
    pub fn try_partition_by<K, F>(
        self,
        size: NonZeroUsize,
        timeout: Option<Duration>,
        key: F,
    ) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> Result<K, Failure> + Send + 'static,
    {
        Batches(self.0.apply(NodeKind::Window, "partition", |events, stage| Partition {
            upstream: events.fuse(),
            dispatches: Dispatches::new(&stage, &[Reason::Size, Reason::Wait, Reason::Drain]),
            stage,
            key,
            size: size.get(),
            timeout,
            groups: HashMap::new(),
            oldest: VecDeque::new(),
            opened: 0,
            timer: None,
            due_first: false,
        }))
    }
}

/// The state machine behind [`Flow::partition_by`]. A group leaves when it is full, when it is due,
/// or when upstream ends.
struct Partition<T, K, F> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    stage: Stage,
    dispatches: Dispatches,
    key: F,
    size: usize,
    timeout: Option<Duration>,
    // Invariant: no group is empty, and none has `size` events between polls.
    groups: HashMap<K, Group<T>>,
    // An entry for each group, ordered by the time of its first event, which is the order in which
    // the groups fall due. The entry of a group that has been emitted is stale. Invariant: the
    // front is not stale, and there are at most as many stale entries as live ones.
    oldest: VecDeque<Opened<K>>,
    // The number of groups that have been opened; the newest group has this number.
    opened: u64,
    timer: Option<Pin<Box<Sleep>>>,
    // Set when a full batch was emitted. The next poll emits a group that is due before it polls
    // upstream, because a busy upstream must not keep that group waiting for ever.
    due_first: bool,
}

struct Group<T> {
    number: u64,
    opened: Instant,
    events: Vec<Event<T>>,
}

struct Opened<K> {
    key: K,
    number: u64,
    at: Instant,
}

impl<T, K, F> Unpin for Partition<T, K, F> {}

impl<T, K, F> Partition<T, K, F>
where
    K: Hash + Eq + Clone,
    F: FnMut(&T) -> Result<K, Failure>,
{
    /// Adds an event to its group; returns the group if it is full.
    fn push(&mut self, event: Event<T>) -> Option<Vec<Event<T>>> {
        let key = match (self.key)(&event.value) {
            Ok(key) => key,
            Err(failure) => {
                self.stage.fail(event.receipt, failure);
                return None;
            }
        };
        let group = self.groups.entry(key.clone()).or_insert_with(|| {
            self.opened += 1;
            let at = Instant::now();
            self.oldest.push_back(Opened { key: key.clone(), number: self.opened, at });
            Group { number: self.opened, opened: at, events: Vec::new() }
        });
        group.events.push(event);
        if group.events.len() < self.size {
            return None;
        }
        let full = self.groups.remove(&key)?;
        self.forget_stale();
        Some(self.dispatch(Reason::Size, full))
    }

    /// Removes stale entries: at the front always, elsewhere once they outnumber the live ones.
    fn forget_stale(&mut self) {
        let groups = &self.groups;
        let live = |opened: &Opened<K>| {
            groups.get(&opened.key).is_some_and(|group| group.number == opened.number)
        };
        while self.oldest.front().is_some_and(|opened| !live(opened)) {
            self.oldest.pop_front();
        }
        if self.oldest.len() > 2 * groups.len() {
            self.oldest.retain(live);
        }
    }

    /// Returns when the oldest group falls due.
    fn due(&self) -> Option<Instant> {
        Some(later(self.oldest.front()?.at, self.timeout?))
    }

    fn dispatch(&self, reason: Reason, Group { opened, events, .. }: Group<T>) -> Vec<Event<T>> {
        self.dispatches.count_after(reason, events.len(), opened.elapsed());
        events
    }

    fn take_oldest(&mut self, reason: Reason) -> Option<Vec<Event<T>>> {
        let opened = self.oldest.pop_front()?;
        let group = self.groups.remove(&opened.key)?;
        self.forget_stale();
        Some(self.dispatch(reason, group))
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<Event<T>>>> {
        let Some(due) = self.due() else { return Poll::Pending };
        ready!(poll_until(&mut self.timer, due, cx));
        Poll::Ready(self.take_oldest(Reason::Wait))
    }
}

impl<T, K, F> Stream for Partition<T, K, F>
where
    K: Hash + Eq + Clone,
    F: FnMut(&T) -> Result<K, Failure>,
{
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if std::mem::take(&mut this.due_first)
            && this.due().is_some_and(|due| due <= Instant::now())
        {
            return Poll::Ready(this.take_oldest(Reason::Wait));
        }
        while let Poll::Ready(next) = this.upstream.poll_next_unpin(cx) {
            let Some(event) = next else { return Poll::Ready(this.take_oldest(Reason::Drain)) };
            if let Some(full) = this.push(event) {
                this.due_first = true;
                return Poll::Ready(Some(full));
            }
        }
        this.poll_due(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, sleep_until};

    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow, Outcome};

    const TIMEOUT: Duration = Duration::from_millis(100);

    /// Returns a flow of the numbers 0, 1 and so on, which come at the milliseconds in `at`.
    fn timed(at: &[u64]) -> Flow<usize> {
        let start = Instant::now();
        let at: Vec<_> = at.iter().copied().enumerate().collect();
        Flow::from_stream(stream::iter(at).then(move |(number, at)| async move {
            sleep_until(start + Duration::from_millis(at)).await;
            number
        }))
    }

    /// Returns batches of at most `n` numbers with the same remainder by `keys`, each with the
    /// millisecond at which it left.
    async fn batches(flow: Flow<usize>, n: usize, keys: usize) -> Vec<(Vec<usize>, u128)> {
        let start = Instant::now();
        let lists =
            flow.partition_by(size(n), Some(TIMEOUT), move |number| number % keys).into_lists();
        lists.map(move |list| (list, start.elapsed().as_millis())).collect().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_runs_from_the_first_event_of_each_batch() {
        let seen = batches(timed(&[0, 0, 0, 90, 500]), 3, 1).await;
        assert_eq!(seen, [(vec![0, 1, 2], 0), (vec![3], 190), (vec![4], 500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_batch_of_each_key_fills_and_falls_due_separately() {
        let seen = batches(timed(&[0, 10, 20, 30, 400]), 2, 3).await;
        assert_eq!(seen, [(vec![0, 3], 30), (vec![1], 110), (vec![2], 120), (vec![4], 400)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_timeout_does_not_panic() {
        let lists = timed(&[0, 9]).partition(size(3), Some(Duration::MAX)).into_lists();
        assert_eq!(lists.collect().await.unwrap(), [[0, 1]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_due_keeps_filling_while_downstream_is_busy() {
        let lists = timed(&[0, 1, 150, 151, 152]).partition(size(3), Some(TIMEOUT)).into_lists();
        let mut lists = lists.0.stream;
        assert_eq!(lists.next().await.unwrap().value, [0, 1]);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(lists.next().await.unwrap().value, [2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_upstream_does_not_starve_a_batch_that_is_due() {
        let numbers = Flow::from_iter(0..1_000);
        let lists = numbers
            .partition_by(size(2), Some(Duration::ZERO), |&number: &i32| number == 0)
            .into_lists();
        let lists = lists.collect().await.unwrap();
        assert!(lists.iter().position(|list| list == &[0]).unwrap() <= 1, "{:?}", &lists[..3]);
    }

    #[test]
    fn an_event_without_a_key_fails_alone() {
        let (flow, outcomes) = Tracked::flow(0..5);
        let key = |number: &i32| match number {
            2 => Err(Failure::new("two", number)),
            _ => Ok(number % 2),
        };
        let lists = flow.named("by parity").try_partition_by(size(2), None, key).into_lists();
        assert_eq!(block_on(lists.collect()).unwrap(), [vec![1, 3], vec![0, 4]]);
        assert_eq!(outcomes.all()[2], Outcome::Failed(Failure::new("two", 2).at("by parity")));
    }

    proptest! {
        #[test]
        fn every_event_leaves_in_its_keys_order_and_within_the_timeout(
            gaps in prop::collection::vec(0_u64..80, 0..60), n in 1_usize..5, keys in 1_usize..4,
        ) {
            let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let seen = block_on(async { batches(timed(&at), n, keys).await });
            let mut by_key = vec![Vec::new(); keys];
            for (batch, emitted) in seen {
                prop_assert!((1..=n).contains(&batch.len()));
                prop_assert!(emitted <= u128::from(at[batch[0]]) + TIMEOUT.as_millis());
                prop_assert!(batch.iter().all(|number| number % keys == batch[0] % keys));
                by_key[batch[0] % keys].extend(batch);
            }
            for (key, numbers) in by_key.into_iter().enumerate() {
                prop_assert_eq!(numbers, (0..at.len()).filter(|number| number % keys == key).collect::<Vec<_>>());
            }
        }
    }
}

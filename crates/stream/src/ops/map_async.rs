//! `map_async`: one value in, one value or a failure out, with several values in progress at a
//! time.

use std::future::{Future, ready};
use std::num::NonZeroUsize;

use futures::stream::{Stream, StreamExt as _};

use crate::stage::Stage;
use crate::{Event, Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Replaces each value by the result of `f`'s future, in input order, with up to `parallelism`
    /// futures running.
    ///
    /// The futures make progress only while downstream asks for events. If a sink may be busy for
    /// long, put a [`buffer`](Flow::buffer) after this operator, which keeps asking.
    ///
    /// - **Emits** one event for each value that `f` accepts, with the same key and receipt, in
    ///   order: a slow future holds back the results after it. For results in the order in which
    ///   they finish, see [`map_async_unordered`](Flow::map_async_unordered).
    /// - **Backpressures** when downstream does, and while `parallelism` futures run or have
    ///   results that wait for an earlier one; holds at most that many.
    /// - **Completes** when upstream completes, after the last future.
    /// - **On failure** that event's receipt fails, with this stage's name; other events are not
    ///   affected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let slow = |millis| async move {
    ///     tokio::time::sleep(Duration::from_millis(millis)).await;
    ///     Ok(millis)
    /// };
    /// let two = at_most(2);
    /// assert_eq!(Flow::from_iter([9, 1, 5]).map_async(slow, two).collect().await?, [9, 1, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_async<U, F, R>(self, f: F, parallelism: NonZeroUsize) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> R + Send + 'static,
        R: Future<Output = Result<U, Failure>> + Send + 'static,
    {
        Flow(self.0.holding().apply(NodeKind::Element, "map_async", |events, stage| {
            accepted(calls(events, f).buffered(parallelism.get()), stage)
        }))
    }

    /// Replaces each value by the result of `f`'s future, in the order in which they finish, with
    /// up to `parallelism` futures running.
    ///
    /// - **Emits** one event for each value that `f` accepts, with the same key and receipt, the
    ///   first to finish first. For results in input order, see [`map_async`](Flow::map_async).
    /// - **Backpressures** when downstream does, and while `parallelism` futures run; holds at most
    ///   that many.
    /// - **Completes** when upstream completes, after the last future.
    /// - **On failure** that event's receipt fails, with this stage's name; other events are not
    ///   affected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::time::Duration;
    ///
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let slow = |millis| async move {
    ///     tokio::time::sleep(Duration::from_millis(millis)).await;
    ///     Ok(millis)
    /// };
    /// let two = at_most(2);
    /// assert_eq!(Flow::from_iter([200, 1]).map_async_unordered(slow, two).collect().await?, [1, 200]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_async_unordered<U, F, R>(self, f: F, parallelism: NonZeroUsize) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> R + Send + 'static,
        R: Future<Output = Result<U, Failure>> + Send + 'static,
    {
        Flow(self.0.holding().apply(NodeKind::Element, "map_async_unordered", |events, stage| {
            accepted(calls(events, f).buffer_unordered(parallelism.get()), stage)
        }))
    }
}

type Called<U> = (Result<U, Failure>, Event<()>);

fn calls<T, U, R: Future<Output = Result<U, Failure>>>(
    events: impl Stream<Item = Event<T>>,
    f: impl FnMut(T) -> R,
) -> impl Stream<Item = impl Future<Output = Called<U>>> {
    let mut f = f;
    events.map(move |event| {
        let (result, rest) = event.map(&mut f).take();
        async move { (result.await, rest) }
    })
}

fn accepted<U>(
    results: impl Stream<Item = Called<U>>,
    stage: Stage,
) -> impl Stream<Item = Event<U>> {
    results.filter_map(move |(result, rest)| {
        ready(match result {
            Ok(value) => Some(rest.with(value)),
            Err(failure) => {
                stage.fail(rest.receipt, failure);
                None
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::{Instant, sleep, timeout};

    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow};

    /// Returns a function that sleeps for the given milliseconds and fails for multiples of 5.
    /// `most` keeps the highest number of its calls that were running at the same time.
    fn sleeper(
        most: &Arc<AtomicUsize>,
    ) -> impl FnMut(u64) -> futures::future::BoxFuture<'static, Result<u64, Failure>> + use<> {
        let most = Arc::clone(most);
        let running = Arc::new(AtomicUsize::new(0));
        move |millis| {
            let running = Arc::clone(&running);
            let most = Arc::clone(&most);
            Box::pin(async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(Duration::from_millis(millis)).await;
                running.fetch_sub(1, Ordering::Relaxed);
                if millis % 5 == 0 { Err(Failure::new("five", millis)) } else { Ok(millis) }
            })
        }
    }

    proptest! {
        #[test]
        fn results_keep_their_order_and_exactly_parallelism_futures_run(
            values in prop::collection::vec(1_u64..30, 0..40), parallelism in 1_usize..6,
        ) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let most = Arc::default();
            let results = block_on(flow.map_async(sleeper(&most), size(parallelism)).collect()).unwrap();

            prop_assert_eq!(results, values.iter().copied().filter(|v| v % 5 != 0).collect::<Vec<_>>());
            let codes = values.iter().map(|v| if v % 5 == 0 { "five" } else { "done" });
            prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
            prop_assert_eq!(most.load(Ordering::Relaxed), parallelism.min(values.len()));
        }

        #[test]
        fn no_unordered_result_is_lost_and_exactly_parallelism_futures_run(
            values in prop::collection::vec(1_u64..30, 0..40), parallelism in 1_usize..6,
        ) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let most = Arc::default();
            let flow = flow.map_async_unordered(sleeper(&most), size(parallelism));
            let mut results = block_on(flow.collect()).unwrap();

            let mut expected: Vec<_> = values.iter().copied().filter(|v| v % 5 != 0).collect();
            expected.sort_unstable();
            results.sort_unstable();
            prop_assert_eq!(results, expected);
            let codes = values.iter().map(|v| if v % 5 == 0 { "five" } else { "done" });
            prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
            prop_assert_eq!(most.load(Ordering::Relaxed), parallelism.min(values.len()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_future_holds_back_the_others_only_if_the_order_is_kept() {
        let flow = || Flow::from_iter([90, 11, 12]);
        let start = Instant::now();
        let at = move |value| (value, start.elapsed().as_millis());
        let results = flow().map_async(sleeper(&Arc::default()), size(3)).map(at);
        // 90 fails, and the results after it wait for it nevertheless.
        assert_eq!(results.collect().await.unwrap(), [(11, 90), (12, 90)]);

        let start = Instant::now();
        let at = move |value| (value, start.elapsed().as_millis());
        let results = flow().map_async_unordered(sleeper(&Arc::default()), size(3)).map(at);
        assert_eq!(results.collect().await.unwrap(), [(11, 11), (12, 12)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_resolved_while_its_future_runs() {
        let (flow, outcomes) = Tracked::flow([1, 2]);
        let run = flow.map_async(|_| pending::<Result<(), Failure>>(), size(2)).collect();
        assert!(
            timeout(Duration::from_secs(1), async move {
                let mut run = std::pin::pin!(run);
                let waited = timeout(Duration::from_millis(1), &mut run).await;
                assert!(waited.is_err());
                assert_eq!(outcomes.codes(), ["open", "open"]);
            })
            .await
            .is_ok()
        );
    }
}

//! `SourceGate`: wraps every source of a flow.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::Stream;
use pin_project_lite::pin_project;
use tokio::task::coop;

use crate::fault::Fault;

pin_project! {
    /// Wraps a source. It ends when the flow's fault is raised, so that the rest of the flow
    /// drains. For each event it uses one unit of the budget that tokio gives a task before it has
    /// to yield, so that a source that is always ready lets other tasks run.
    ///
    /// If the budget is used up, the gate is pending although the source has an event. An operator
    /// that also polls something else, such as a timer, must therefore poll that in a way that
    /// needs no budget.
    pub(crate) struct SourceGate<S> {
        #[pin]
        source: S,
        fault: Fault,
        // Completes when the fault is raised, which wakes a source that waits. Created when the
        // source is pending for the first time.
        raised: Option<BoxFuture<'static, ()>>,
    }
}

impl<S> SourceGate<S> {
    pub(crate) fn new(source: S, fault: Fault) -> Self {
        Self { source, fault, raised: None }
    }
}

impl<S: Stream> Stream for SourceGate<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let progress = ready!(coop::poll_proceed(cx));
        if this.fault.is_raised() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.source.poll_next(cx) {
            progress.made_progress();
            return Poll::Ready(item);
        }
        let raised = this.raised.get_or_insert_with(|| {
            let fault = this.fault.clone();
            async move { _ = fault.raised().await }.boxed()
        });
        raised.poll_unpin(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::num::NonZeroU32;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use tokio::time::timeout;

    use crate::testing::size;
    use crate::{EmitOn, Empty, Failure, Flow, Keep, Overflow, Pipeline, Release, Retry};

    const SHORT: Duration = Duration::from_millis(5);
    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_flow_that_discards_everything_lets_a_timer_fire() {
        let run = Flow::from_iter(0_u64..).filter(|_| false).collect();
        assert!(timeout(SHORT, run).await.is_err());
    }

    #[tokio::test]
    async fn a_flow_that_is_always_busy_lets_other_tasks_run() {
        let busy = tokio::spawn(Flow::from_iter(0_u64..).sink_fn(drop).run());
        let buffered = Flow::from_iter(0_u64..).buffer(size(9), Overflow::Wait);
        let buffered = tokio::spawn(buffered.sink_fn(drop).run());
        tokio::time::sleep(SHORT).await;
        busy.abort();
        buffered.abort();
    }

    #[tokio::test]
    async fn a_busy_upstream_delays_neither_a_tick_nor_a_flush() {
        let many = size(100_000_000);
        let repeats = Flow::from_iter(0_u64..).timed_window_unique(SHORT, many, |_| 0, Keep::Last);
        let first = repeats.into_lists().slice(0, Some(1), size(1)).collect();
        assert_eq!(timeout(100 * SHORT, first).await.unwrap().unwrap().len(), 1);

        // tokio's budget allows a task 128 events in one poll.
        for max_size in [127, 128, 129, 256] {
            let flush = Flow::from_iter([()]);
            let flow = Flow::from_iter(0_u64..).collect_until(flush, size(max_size), Empty::Emit);
            let empty = flow.into_lists().filter(Vec::is_empty).slice(0, Some(1), size(1));
            assert_eq!(timeout(100 * SHORT, empty.collect()).await.unwrap().unwrap().len(), 1);
        }
    }

    /// Returns how often a flow's source and its run are polled during a minute in which no event
    /// comes after the first one.
    async fn polls(end: impl FnOnce(Flow<u32>) -> Pipeline) -> (usize, usize) {
        let counter = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&counter);
        let silent = stream::poll_fn(move |_| {
            counts.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        });
        let run = end(Flow::from_stream(stream::iter([1]).chain(silent))).run();
        let mut run = pin!(run);
        let mut runs = 0;
        let minute = poll_fn(|cx| {
            runs += 1;
            run.as_mut().poll(cx)
        });
        // If the run woke itself again and again, the paused clock would not advance, and the test
        // would hang.
        assert!(timeout(MINUTE, minute).await.is_err());
        (counter.load(Ordering::Relaxed), runs)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_flow_is_not_polled() {
        type End = fn(Flow<u32>) -> Pipeline;
        let ends: [(&str, End); 14] = [
            ("map", |flow| flow.map(|number| number).sink_fn(drop)),
            ("buffer", |flow| flow.buffer(size(2), Overflow::Wait).sink_fn(drop)),
            ("latest", |flow| flow.latest().sink_fn(drop)),
            ("rate_limit", |flow| flow.rate_limit(SHORT, size(1)).sink_fn(drop)),
            ("delay", |flow| flow.delay(SHORT, size(2)).sink_fn(drop)),
            ("partition", |flow| flow.partition(size(2), None).flatten().sink_fn(drop)),
            ("partition", |flow| flow.partition(size(2), Some(SHORT)).flatten().sink_fn(drop)),
            ("branch", |flow| {
                let [left, right] = flow.branch(size(2));
                left.union(right).sink_fn(drop)
            }),
            ("zip", |flow| {
                flow.zip(Flow::from_stream(stream::pending::<()>()), size(2)).sink_fn(drop)
            }),
            ("combine_latest", |flow| {
                flow.combine_latest(Flow::from_stream(stream::pending::<()>()), EmitOn::Any)
                    .sink_fn(drop)
            }),
            ("catch", |flow| {
                let (flow, failures) = flow.catch(size(2), Release::InOrder);
                flow.rejoin(failures.map(|failed| failed.input)).sink_fn(drop)
            }),
            ("in_order_by", |flow| {
                flow.in_order_by(size(2), |_| (), |flow| flow.delay(SHORT, size(2))).sink_fn(drop)
            }),
            ("retry", |flow| {
                let attempts = NonZeroU32::MAX;
                let retry = Retry { attempts, backoff: MINUTE / 3, max_backoff: MINUTE / 3 };
                let busy = |_| Err::<(), _>(Failure::new("busy", "").transient());
                flow.retry(retry, size(2)).try_map(busy).sink_fn(drop)
            }),
            ("feedback", |flow| {
                let (flow, feedback) = flow.feedback(size(2));
                let (again, out) = flow.split(|number| *number < 9, size(2));
                feedback.connect(again.map(|number| number + 1), out).sink_fn(drop)
            }),
        ];
        for (name, end) in ends {
            let (of_source, of_run) = polls(end).await;
            assert!(of_source <= 12 && of_run <= 12, "{name}: {of_source}, {of_run}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_window_is_polled_once_a_tick() {
        let beat = Duration::from_secs(1);
        let window = |flow: Flow<u32>| flow.timed_window(beat, size(9)).flatten().sink_fn(drop);
        let (of_source, of_run) = polls(window).await;
        assert!(of_source <= 64 && of_run <= 64, "{of_source}, {of_run}");
    }
}

//! `Intake`: where events enter a flow.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::Stream;
use pin_project_lite::pin_project;
use tokio::task::coop;

use crate::fault::Fault;

pin_project! {
    /// Ends a source when its flow has a fault, so that the rest drains, and makes one that is always ready let other
    /// tasks run: each event uses up one unit of the task's budget.
    ///
    /// A source may therefore be pending with an event there. An operator that looks at something else in the
    /// meantime, as at a timer, must not leave that to the budget.
    pub(crate) struct Intake<S> {
        #[pin]
        source: S,
        fault: Fault,
        // Wakes a source that waits; made when it first does.
        raised: Option<BoxFuture<'static, ()>>,
    }
}

impl<S> Intake<S> {
    pub(crate) fn new(source: S, fault: Fault) -> Self {
        Self { source, fault, raised: None }
    }
}

impl<S: Stream> Stream for Intake<S> {
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
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::testing::size;
    use crate::{Empty, Flow, Keep, Overflow};

    const SHORT: Duration = Duration::from_millis(5);

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
    async fn a_busy_upstream_hides_neither_a_tick_nor_a_flush() {
        let many = size(100_000_000);
        let repeats = Flow::from_iter(0_u64..).timed_window_unique(SHORT, many, |_| 0, Keep::Last);
        let first = repeats.into_lists().slice(0, Some(1), size(1)).collect();
        assert_eq!(timeout(100 * SHORT, first).await.unwrap().unwrap().len(), 1);

        // 128 events are what tokio allows a task in one turn.
        for max_size in [127, 128, 129, 256] {
            let told = Flow::from_iter([()]);
            let flow = Flow::from_iter(0_u64..).collect_until(told, size(max_size), Empty::Emit);
            let empty = flow.into_lists().filter(Vec::is_empty).slice(0, Some(1), size(1));
            assert_eq!(timeout(100 * SHORT, empty.collect()).await.unwrap().unwrap().len(), 1);
        }
    }
}

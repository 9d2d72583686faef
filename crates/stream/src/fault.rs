//! `Fault`: the error that ends a flow before its input has ended. All parts of a flow share one
//! fault.

use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::{Instant, sleep_until};

use crate::PipelineError;

/// The time that a flow has to drain the events in flight after its fault was raised.
const GRACE: Duration = Duration::from_secs(1);

/// The error that ended a flow, if any. Sources, tasks and sinks raise it.
///
/// All clones of a fault belong to one flow with all its branches. When two flows are joined, their
/// faults are merged. Once a fault is raised, the flow's sources end, the events in flight are
/// drained, and every run of the flow returns the error.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<Shared>);

#[derive(Default)]
struct Shared {
    // Set when this fault is merged into another. A fault that is not merged is a root. Merging
    // links one root to another root while `CHANGING` is held, so the links never form a circle.
    merged: OnceLock<Fault>,
    raised: OnceLock<Raised>,
    changed: Notify,
}

#[derive(Clone)]
struct Raised {
    error: PipelineError,
    at: Instant,
}

/// Held while a fault is merged or raised, so that an error is always raised in a root. One lock
/// for the whole process is enough, because both are rare.
static CHANGING: Mutex<()> = Mutex::new(());

impl Fault {
    /// Merges both faults: an error that is raised in one of them is then raised in both.
    pub(crate) fn merge(&self, other: &Self) {
        let _changing = CHANGING.lock();
        let root = self.root();
        let merged = other.root();
        if Arc::ptr_eq(&root.0, &merged.0) {
            return;
        }
        if let Some(raised) = merged.0.raised.get() {
            root.0.raised.get_or_init(|| raised.clone());
        }
        merged.0.merged.get_or_init(|| root.clone());
        root.0.changed.notify_waiters();
        merged.0.changed.notify_waiters();
    }

    /// Ends the flow with `error`. If the flow has already ended with another error, `error` is
    /// only logged.
    pub(crate) fn raise(&self, error: PipelineError) {
        let _changing = CHANGING.lock();
        let root = self.root();
        if let Err(Raised { error, .. }) = root.0.raised.set(Raised { error, at: Instant::now() }) {
            tracing::error!(%error, "the flow had already ended with another error");
        }
        root.0.changed.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.root().0.raised.get().is_some()
    }

    pub(crate) fn error(&self) -> Option<PipelineError> {
        Some(self.root().0.raised.get()?.error.clone())
    }

    /// Waits until the fault is raised, and returns the time at which it was raised.
    pub(crate) async fn raised(&self) -> Instant {
        loop {
            // `changed` is created before the fault is read, so that no later change is missed. If
            // `root` was merged meanwhile, the loop begins again with the new root.
            let root = self.root();
            let changed = root.0.changed.notified();
            if let Some(raised) = self.root().0.raised.get() {
                return raised.at;
            }
            if root.0.merged.get().is_none() {
                changed.await;
            }
        }
    }

    /// Waits until the fault is raised and `GRACE` has passed since then.
    pub(crate) async fn overdue(&self) {
        let at = self.raised().await;
        // Unconstrained, because a flow that uses up the task's budget at every poll would
        // otherwise keep this timer from firing.
        coop::unconstrained(sleep_until(at + GRACE)).await;
    }

    fn root(&self) -> &Self {
        let mut root = self;
        while let Some(merged) = root.0.merged.get() {
            root = merged;
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use tokio::time::{Instant, sleep, timeout};

    use super::{Fault, GRACE};
    use crate::testing::{Tracked, block_on, size};
    use crate::{Event, Flow, Overflow, PipelineError, Sink};

    /// An endless source with one event per millisecond.
    fn endless() -> (Flow<u64>, Tracked) {
        Tracked::stream(stream::iter(0..).then(|number| async move {
            sleep(Duration::from_millis(1)).await;
            number
        }))
    }

    /// A source that emits 7 after 5 ms and fails after 10 ms.
    fn failing() -> Flow<u64> {
        let events = stream::iter([Ok(7), Err(io::Error::other("gone"))]).then(async |item| {
            sleep(Duration::from_millis(5)).await;
            item.map(Event::detached)
        });
        Flow::from_try_events("failing", events)
    }

    fn panicking() -> Flow<u64> {
        failing().map(|_| panic!("seven is too much"))
    }

    fn is_gone<T>(result: &Result<T, PipelineError>) -> bool {
        matches!(result, Err(PipelineError::Source(cause)) if cause.is::<io::Error>())
    }

    #[tokio::test(start_paused = true)]
    async fn when_one_source_fails_the_other_ends_and_its_events_are_delivered() {
        let start = Instant::now();
        let (flow, outcomes) = endless();
        let error = flow.union(failing()).collect().await;
        assert!(is_gone(&error), "{error:?}");
        assert_eq!(start.elapsed(), Duration::from_millis(10));
        assert!(outcomes.codes().iter().all(|code| code == "done"), "{:?}", outcomes.codes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_waits_is_woken_by_the_fault_of_another_source() {
        let start = Instant::now();
        let silent = Flow::from_stream(stream::pending()).buffer(size(1), Overflow::Wait);
        assert!(is_gone(&silent.union(failing()).collect().await));
        assert_eq!(start.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_the_task_of_a_buffer_ends_the_other_source_too() {
        let start = Instant::now();
        let (flow, outcomes) = endless();
        let side = panicking().buffer(size(3), Overflow::Wait);
        let error = flow.union(side).collect().await.unwrap_err();
        assert_eq!(error.to_string(), "the stage `map` panicked: seven is too much");
        assert_eq!(start.elapsed(), Duration::from_millis(5));
        assert!(outcomes.codes().iter().all(|code| code == "done"));
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_do_not_drain_within_the_grace_period_are_abandoned() {
        let start = Instant::now();
        let (flow, outcomes) = Tracked::flow([1]);
        let stuck = flow.map_async(|_| pending(), size(1));
        assert!(is_gone(&stuck.union(failing()).collect().await));
        assert_eq!(start.elapsed(), Duration::from_millis(10) + GRACE);
        assert_eq!(outcomes.codes(), ["abandoned"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flow_that_is_always_busy_is_cut_off_after_the_grace_period() {
        let start = Instant::now();
        // The paused clock advances by itself only while every task is idle, so this task advances
        // it.
        let clock = tokio::spawn(async {
            loop {
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        });
        let busy = Flow::from_iter([()]).map_async(
            |()| async {
                loop {
                    tokio::task::consume_budget().await;
                }
            },
            size(1),
        );
        assert!(is_gone(&busy.union(failing()).collect().await));
        assert!(start.elapsed() < 2 * GRACE);
        clock.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn every_run_of_a_flow_returns_its_fault() {
        let (flow, _outcomes) = endless();
        let [left, right] = flow.union(failing()).branch(size(4));
        let (other, _outcomes) = endless();
        let (left, right) = tokio::join!(left.collect(), right.union(other).collect());
        assert!(is_gone(&left), "{left:?}");
        assert!(is_gone(&right), "{right:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_reaches_a_branch_that_ran_before_the_flows_were_merged() {
        let (flow, _outcomes) = endless();
        let [left, right] = flow.branch(size(4));
        let left = tokio::spawn(left.collect());
        sleep(Duration::from_millis(3)).await;
        let right = right.union(failing()).collect().await;
        assert!(is_gone(&right), "{right:?}");
        assert!(is_gone(&left.await.unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_fails_ends_the_other_branches() {
        struct Broken;
        impl Sink<u64> for Broken {
            type Error = io::Error;

            async fn send(&mut self, _event: Event<u64>) -> Result<(), io::Error> {
                Err(io::Error::other("no disk"))
            }
        }
        let (flow, _outcomes) = endless();
        let [left, right] = flow.branch(size(4));
        let (broken, whole) = tokio::join!(left.sink("disk", Broken).run(), right.collect());
        for error in [broken.unwrap_err(), whole.unwrap_err()] {
            assert!(matches!(error, PipelineError::Sink(cause) if cause.to_string() == "no disk"));
        }
    }

    #[test]
    fn a_panic_is_returned_with_its_stage_after_the_sink_has_confirmed_its_events() {
        struct Late(Vec<Event<i32>>);
        impl Sink<i32> for Late {
            type Error = io::Error;

            async fn send(&mut self, event: Event<i32>) -> Result<(), io::Error> {
                self.0.push(event);
                Ok(())
            }

            async fn close(&mut self) -> Result<(), io::Error> {
                self.0.drain(..).for_each(|event| event.receipt.done());
                Ok(())
            }
        }
        let (flow, outcomes) = Tracked::flow(0..100);
        let flow = flow.map(|number| number + 1).named("picky").map(|number| {
            assert!(number < 3, "{number} is too much");
            number
        });
        let batches = flow.partition(size(1), None).flatten();
        let error = block_on(batches.sink("late", Late(Vec::new())).run()).unwrap_err();
        assert_eq!(error.to_string(), "the stage `picky` panicked: 3 is too much");
        assert_eq!(outcomes.codes(), ["done", "done", "abandoned"]);
    }

    #[test]
    fn a_panic_of_a_sink_is_returned_with_its_name_and_abandons_the_events_in_flight() {
        let (flow, outcomes) = Tracked::flow(0..100);
        let flow = flow.map_async(async |number: i32| Ok(number), size(3));
        let error = block_on(flow.sink_fn(|_| panic!("full")).run()).unwrap_err();
        assert_eq!(error.to_string(), "the stage `sink_fn` panicked: full");
        assert_eq!(outcomes.codes(), ["abandoned"; 3]);
    }

    #[tokio::test]
    async fn a_panic_in_the_task_of_split_is_attributed_to_split() {
        let (even, odd) =
            Flow::from_iter([1]).split(|number| panic!("{number} is neither"), size(1));
        let (even, odd) = tokio::join!(even.collect(), odd.collect());
        for error in [even.unwrap_err(), odd.unwrap_err()] {
            assert_eq!(error.to_string(), "the stage `split` panicked: 1 is neither");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_raised_in_one_of_several_merged_faults_is_raised_in_all() {
        for raised in 0..4 {
            let faults: [Fault; 4] = Default::default();
            let waits = faults.clone().map(|fault| {
                tokio::spawn(async move { timeout(GRACE, fault.raised()).await.is_ok() })
            });
            sleep(Duration::from_millis(1)).await;
            for (into, from) in [(1, 0), (2, 3), (1, 2), (0, 3)] {
                faults[into].merge(&faults[from]);
            }
            faults[raised]
                .raise(PipelineError::Panicked { stage: Arc::from("x"), message: String::new() });
            for wait in waits {
                assert!(wait.await.unwrap());
            }
        }
    }
}

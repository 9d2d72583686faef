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
    let (even, odd) = Flow::from_iter([1]).split(|number| panic!("{number} is neither"), size(1));
    let (even, odd) = tokio::join!(even.collect(), odd.collect());
    for error in [even.unwrap_err(), odd.unwrap_err()] {
        assert_eq!(error.to_string(), "the stage `split` panicked: 1 is neither");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_raised_in_one_of_several_merged_faults_is_raised_in_all() {
    for raised in 0..4 {
        let faults: [Fault; 4] = Default::default();
        let waits = faults
            .clone()
            .map(|fault| tokio::spawn(async move { timeout(GRACE, fault.raised()).await.is_ok() }));
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

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::mpsc;
use std::time::Duration;

use futures::stream::StreamExt as _;
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use super::Retry;
use crate::testing::{Tracked, block_on, size};
use crate::{Failure, Flow, Outcome, Release};

const MILLISECOND: Duration = Duration::from_millis(1);

fn retry(attempts: u32, backoff: Duration) -> Retry {
    let attempts = NonZeroU32::new(attempts).unwrap();
    Retry { attempts, backoff, max_backoff: Duration::from_millis(25) }
}

fn busy() -> Failure {
    Failure::new("busy", "").transient()
}

/// The number of an input, how many of its attempts fail with a transient failure, and whether
/// the next attempt after them fails for good.
type Moody = (usize, u32, bool);

/// Returns a function that gives the result of an input's next attempt.
fn step() -> impl FnMut(Moody) -> Result<usize, Failure> {
    let mut tried = HashMap::new();
    move |(number, fails, broken)| {
        let tried = tried.entry(number).or_insert(0);
        *tried += 1;
        match () {
            () if *tried <= fails => Err(busy()),
            () if broken => Err(Failure::new("broken", "")),
            () => Ok(number),
        }
    }
}

fn expected(&(_, fails, broken): &Moody, attempts: u32) -> Outcome {
    match () {
        () if fails >= attempts => Outcome::Failed(busy().at("try_map").after(attempts)),
        () if broken => Outcome::Failed(Failure::new("broken", "").at("try_map").after(fails + 1)),
        () => Outcome::Done,
    }
}

proptest! {
    #[test]
    fn each_event_is_tried_until_it_is_done_or_fails_for_good_or_has_no_attempts_left(
        inputs in prop::collection::vec((0_u32..5, any::<bool>()), 0..40),
        attempts in 1_u32..5, capacity in 1_usize..6, window in 1_usize..6,
    ) {
        let inputs: Vec<Moody> = inputs
            .into_iter().enumerate().map(|(number, (fails, broken))| (number, fails, broken)).collect();
        let (flow, outcomes) = Tracked::flow(inputs.clone());
        let flow = flow.retry(retry(attempts, MILLISECOND), size(capacity));
        let flow = flow.partition(size(window), Some(MILLISECOND)).flatten();
        let run = flow.try_map(step()).collect();
        let in_time = block_on(async { timeout(Duration::from_hours(1), run).await });
        let mut results = in_time.expect("it ends").unwrap();
        results.sort_unstable();

        let wanted: Vec<_> = inputs.iter().map(|input| expected(input, attempts)).collect();
        let passed = inputs.iter().zip(&wanted).filter(|(_, wanted)| **wanted == Outcome::Done);
        prop_assert_eq!(results, passed.map(|(input, _)| input.0).collect::<Vec<_>>());
        prop_assert_eq!(outcomes.all(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_doubles_up_to_its_limit() {
    let start = Instant::now();
    let (seen, attempts) = mpsc::channel();
    let (flow, outcomes) = Tracked::flow([()]);
    let flow = flow.retry(retry(5, Duration::from_millis(10)), size(1)).try_map(move |()| {
        seen.send(start.elapsed().as_millis()).unwrap();
        Err::<(), _>(busy())
    });
    flow.collect().await.unwrap();
    assert_eq!(attempts.iter().collect::<Vec<_>>(), [0, 10, 30, 55, 80]);
    assert_eq!(outcomes.all(), [Outcome::Failed(busy().at("try_map").after(5))]);
}

#[test]
fn the_longest_waits_do_not_overflow() {
    let forever = Retry { max_backoff: Duration::MAX, ..retry(u32::MAX, Duration::MAX) };
    assert_eq!(forever.wait_after(u32::MAX), Duration::MAX);
    let short = Retry { max_backoff: Duration::MAX, ..retry(9, MILLISECOND) };
    assert_eq!(
        [1, 2, 33].map(|failed| short.wait_after(failed)),
        [1, 2, u32::MAX].map(|n| MILLISECOND * n)
    );
}

#[tokio::test(start_paused = true)]
async fn upstream_waits_while_capacity_events_wait_for_their_next_attempt() {
    let (flow, outcomes) = Tracked::flow((0..9).map(|number| (number, 1, false)));
    let flow = flow.retry(retry(2, Duration::from_millis(20)), size(3)).try_map(step());
    let run = tokio::spawn(flow.collect());
    sleep(10 * MILLISECOND).await;
    assert_eq!(outcomes.codes(), ["open"; 3], "upstream was asked for three events only");
    assert_eq!(run.await.unwrap().unwrap(), (0..9).collect::<Vec<_>>());
    assert_eq!(outcomes.codes(), ["done"; 9]);
}

#[test]
fn an_event_that_is_due_goes_before_new_events() {
    let flow = Flow::from_iter([(0, 1, false), (1, 0, false)]);
    let flow = flow.retry(retry(2, Duration::ZERO), size(3)).try_map(step());
    assert_eq!(block_on(flow.collect()).unwrap(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_or_fail_after_the_flow_was_dropped_are_abandoned() {
    let (flow, outcomes) = Tracked::flow(0..3);
    let mut events = flow.retry(retry(2, MILLISECOND), size(3)).0.stream.take(3);
    let [first, second, _third] = [events.next().await, events.next().await, events.next().await];
    first.unwrap().receipt.fail(busy());
    assert_eq!(outcomes.codes(), ["open"; 3]);
    drop(events);
    assert_eq!(outcomes.codes(), ["abandoned", "open", "open"]);
    second.unwrap().receipt.fail(busy());
    assert_eq!(outcomes.codes(), ["abandoned", "abandoned", "open"]);
}

#[tokio::test]
async fn an_event_that_fails_again_and_again_lets_other_tasks_run() {
    let flow = Flow::from_iter([()]).retry(retry(u32::MAX, Duration::ZERO), size(1));
    let run = flow.try_map(|()| Err::<(), _>(busy())).collect();
    assert!(timeout(Duration::from_millis(5), run).await.is_err());
}

#[test]
fn a_failure_of_the_last_attempt_leaves_catch_in_order_with_its_number_of_attempts() {
    let inputs = [(0, 9, false), (1, 1, false), (2, 0, true), (3, 0, false)];
    let (flow, failures) = Flow::from_iter(inputs).catch(size(9), Release::InOrder);
    let results = flow.retry(retry(3, MILLISECOND), size(9)).try_map(step());
    let errors = failures.map(|failed| {
        format!("{} {} {}", failed.input.0, failed.failure.code(), failed.failure.attempts())
    });
    let answers = block_on(results.map(|n| n.to_string()).rejoin(errors).collect()).unwrap();
    assert_eq!(answers, ["3", "1", "0 busy 3", "2 broken 1"]);
}

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::mpsc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::{Breaker, Ratio};
use crate::testing::{Tracked, block_on, size};
use crate::{Failure, Flow, PipelineError, Release, Retry};

fn breaker(ratio: f64, of: usize, run: Option<usize>) -> Breaker {
    Breaker { ratio: Ratio::new(ratio).unwrap(), of: size(of), run: run.map(size) }
}

fn check(good: bool) -> Result<bool, Failure> {
    if good { Ok(good) } else { Err(Failure::new("bad", "it is")) }
}

/// Returns the number of outcomes after which the breaker has to trip; `None` if it must not
/// trip.
fn trips_at(inputs: &[bool], percent: usize, of: usize, run: Option<usize>) -> Option<usize> {
    let mut last = VecDeque::new();
    let failures = |last: &VecDeque<bool>, n| last.iter().take(n).filter(|good| !**good).count();
    (1..=inputs.len()).find(|seen| {
        last.push_front(inputs[seen - 1]);
        let share = last.len() >= of && failures(&last, of) * 100 >= percent * of;
        let run = run.is_some_and(|run| failures(&last, run) == run);
        !inputs[seen - 1] && (share || run)
    })
}

proptest! {
    #[test]
    fn the_breaker_trips_at_the_first_failure_that_is_too_many_and_never_otherwise(
        inputs in prop::collection::vec(prop::bool::weighted(0.7), 0..60),
        percent in 1_usize..=100, of in 1_usize..12, run in prop::option::of(1_usize..6),
    ) {
        #[expect(clippy::cast_precision_loss, reason = "it is at most 100")]
        let ratio = percent as f64 / 100.0;
        let (flow, outcomes) = Tracked::flow(inputs.clone());
        let run_of_it = block_on(flow.breaker(breaker(ratio, of, run)).try_map(check).collect());

        let trips_at = trips_at(&inputs, percent, of, run);
        prop_assert_eq!(run_of_it.is_err(), trips_at.is_some());
        let codes = inputs.iter().enumerate().map(|(index, good)| match good {
            true => "done",
            false if Some(index + 1) == trips_at => "abandoned",
            false => "bad",
        });
        // No input is read after the breaker has tripped.
        prop_assert_eq!(outcomes.codes(), codes.take(trips_at.unwrap_or(usize::MAX)).collect::<Vec<_>>());
    }
}

#[test]
fn a_ratio_is_more_than_0_and_at_most_1() {
    for wrong in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Ratio::new(wrong), None);
    }
    assert_eq!(Ratio::new(1.0).map(Ratio::get), Some(1.0));
}

#[test]
fn the_error_says_how_many_inputs_failed_and_with_which_last_failure() {
    let flow = Flow::from_iter([true, false, true, false]).breaker(breaker(0.5, 4, None));
    let error = block_on(flow.try_map(check).named("decode").collect()).unwrap_err();
    assert!(
        matches!(&error, PipelineError::Tripped { failed: 2, of: 4, last } if last.code() == "bad")
    );
    assert_eq!(
        error.to_string(),
        "the circuit breaker tripped: 2 of the last 4 inputs failed; the last failure: bad: it is (at try_map). \
         Find out why they fail, or let the breaker allow more, and start again: inputs without an \
         answer are read again"
    );
}

/// An endless flow of inputs, one per millisecond, and a function that fails for all of them
/// from `first` on.
fn broken_from(first: u64) -> (Flow<u64>, Tracked, impl FnMut(u64) -> Result<u64, Failure>) {
    let (flow, outcomes) = Tracked::stream(stream::iter(0..).then(|number| async move {
        sleep(Duration::from_millis(1)).await;
        number
    }));
    let works = move |number| {
        if number < first { Ok(number) } else { Err(Failure::new("broken", number).transient()) }
    };
    (flow, outcomes, works)
}

#[tokio::test(start_paused = true)]
async fn an_endless_flow_ends_when_the_breaker_trips_and_later_failures_are_not_answered() {
    let start = Instant::now();
    for release in [Release::AtOnce, Release::InOrder] {
        let (flow, outcomes, works) = broken_from(7);
        let (flow, failures) = flow.catch(size(99), release);
        let retry = Retry {
            attempts: NonZeroU32::new(2).unwrap(),
            backoff: Duration::from_millis(3),
            max_backoff: Duration::from_secs(1),
        };
        let flow = flow.breaker(breaker(1.0, 99, Some(3))).retry(retry, size(99));
        let results =
            flow.partition(size(2), Some(Duration::from_millis(1))).flatten().try_map(works);
        let answers = results.rejoin(failures.map(|failed| failed.input + 1_000));
        let (seen, answered) = mpsc::channel();
        let run = answers.sink_fn(move |number| seen.send(number).unwrap()).run();

        let error = run.await.unwrap_err();
        assert!(matches!(&error, PipelineError::Tripped { failed: 3, of: 3, .. }), "{error}");
        assert!(error.to_string().contains("broken"), "{error}");
        assert_eq!(answered.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 1007, 1008]);
        let codes = outcomes.codes();
        assert!(codes[..9].iter().all(|code| code == "done"), "{codes:?}");
        assert!(codes[9..].iter().all(|code| code == "abandoned") && codes.len() > 9, "{codes:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "nothing had to be cut off");
}

#[tokio::test(start_paused = true)]
async fn results_are_delivered_after_the_breaker_has_tripped() {
    let (flow, outcomes) = Tracked::flow(0..3);
    let slow = async |number| {
        sleep(Duration::from_millis(number)).await;
        if number == 1 { Err(Failure::new("one", number)) } else { Ok(number) }
    };
    let flow = flow.breaker(breaker(1.0, 1, None)).map_async(slow, size(3));
    assert!(flow.collect().await.is_err());
    assert_eq!(outcomes.codes(), ["done", "abandoned", "done"]);
}

#[test]
fn abandoned_inputs_do_not_count() {
    let (flow, outcomes) = Tracked::flow(0..3);
    let fault = flow.0.fault.clone();
    let events = flow.breaker(breaker(1.0, 2, None)).0.stream.collect::<Vec<_>>();
    for event in block_on(events) {
        if event.value < 2 { drop(event) } else { event.receipt.fail(Failure::new("bad", "")) }
    }
    assert_eq!(outcomes.codes(), ["abandoned", "abandoned", "bad"]);
    assert!(!fault.is_raised());
}

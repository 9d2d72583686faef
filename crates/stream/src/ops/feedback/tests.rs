use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use crate::testing::{Tracked, block_on, size};
use crate::{Failed, Failure, Flow, PipelineError, Release};

/// A Collatz sequence under way: its first number, its current number, and the number of its
/// steps.
type Way = (u64, u64, u32);

fn step((first, number, steps): Way) -> Way {
    (first, if number % 2 == 0 { number / 2 } else { 3 * number + 1 }, steps + 1)
}

fn is_on_its_way((_, number, _): &Way) -> bool {
    *number != 1
}

/// Pairs each number with the number of steps that its Collatz sequence takes to reach 1; at
/// least one step.
fn expected(numbers: &[u64]) -> Vec<(u64, u32)> {
    let steps = |number: &u64| {
        let mut way = step((*number, *number, 0));
        while is_on_its_way(&way) {
            way = step(way);
        }
        (way.0, way.2)
    };
    let mut expected: Vec<_> = numbers.iter().map(steps).collect();
    expected.sort_unstable();
    expected
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

async fn in_time<T>(run: impl Future<Output = Result<T, PipelineError>>) -> T {
    timeout(Duration::from_hours(1), run).await.expect("it ends").unwrap()
}

proptest! {
    #[test]
    fn results_agree_with_a_while_loop_per_number(
        numbers in prop::collection::vec(1_u64..60, 0..30),
        capacity in 1_usize..6, ways in 1_usize..4, window in 1_usize..40,
    ) {
        let (flow, outcomes) = Tracked::flow(numbers.clone());
        let (flow, feedback) = flow.map(|number| (number, number, 0)).feedback(size(capacity));
        let (again, out) = flow.map(step).split(is_on_its_way, size(ways));
        let out = feedback.connect(again, out).map(|(first, _, steps)| (first, steps));
        // A window without a timeout: it emits its last batch only if the loop completes.
        let lists = block_on(in_time(out.partition(size(window), None).into_lists().collect()));
        prop_assert!(lists.iter().rev().skip(1).all(|list| list.len() == window));
        prop_assert_eq!(sorted(lists.concat()), expected(&numbers));
        prop_assert_eq!(outcomes.codes(), vec!["done"; numbers.len()]);
    }

    #[test]
    fn a_window_inside_the_loop_with_a_timeout_loses_nothing(
        numbers in prop::collection::vec(1_u64..60, 0..30), capacity in 1_usize..6,
        window in 1_usize..9, detached: bool,
    ) {
        let (flow, outcomes) = Tracked::flow(numbers.clone());
        let (flow, feedback) = flow.map(|number| (number, number, 0)).feedback(size(capacity));
        let lists = flow.partition(size(window), Some(Duration::from_millis(3))).into_lists();
        let flow = lists.flatten().map(step);
        let flow = if detached { flow.detach() } else { flow };
        let (again, out) = flow.split(is_on_its_way, size(3));
        let out = feedback.connect(again, out).map(|(first, _, steps)| (first, steps));
        let lists = out.partition(size(9), None).into_lists();
        prop_assert_eq!(sorted(block_on(in_time(lists.collect())).concat()), expected(&numbers));
        prop_assert_eq!(outcomes.codes(), vec!["done"; numbers.len()]);
    }

    #[test]
    fn nested_loops_agree_with_a_multiplication(
        numbers in prop::collection::vec((1_u32..5, 1_u32..5), 0..20),
        outer in 1_usize..4, inner in 1_usize..4, window in 1_usize..40,
    ) {
        let (flow, outcomes) = Tracked::flow(numbers.clone());
        let pairs = flow.map(|(rounds, each)| (rounds, each, each, 0));
        let (pairs, whole) = pairs.feedback(size(outer));
        let (pairs, part) = pairs.feedback(size(inner));
        let count = |(rounds, each, left, total)| (rounds, each, left - 1, total + 1);
        let (again, out) = pairs.map(count).split(|pair| pair.2 > 0, size(2));
        let pairs = part.connect(again, out);
        let next = |(rounds, each, _, total)| (rounds - 1, each, each, total);
        let (again, out) = pairs.map(next).split(|pair| pair.0 > 0, size(2));
        let totals = whole.connect(again, out).map(|(_, _, _, total)| total);
        let lists = totals.partition(size(window), None).into_lists().collect();
        let products = numbers.iter().map(|(rounds, each)| rounds * each).collect();
        prop_assert_eq!(sorted(block_on(in_time(lists)).concat()), sorted::<u32>(products));
        prop_assert_eq!(outcomes.codes(), vec!["done"; numbers.len()]);
    }

    #[test]
    fn a_loop_that_multiplies_its_events_fails_the_events_that_do_not_fit(
        numbers in prop::collection::vec(0_u32..8, 1..8), capacity in 1_usize..5, ways in 1_usize..4,
    ) {
        let (flow, outcomes) = Tracked::flow(numbers.clone());
        let (flow, feedback) = flow.feedback(size(capacity));
        // Each event of a number above 0 becomes two events of the next smaller number. If all
        // fit, `number` becomes `2^number` results.
        let twice = flow.map(|number| vec![number; if number == 0 { 1 } else { 2 }]).flatten();
        let (again, out) = twice.split(|number| *number > 0, size(ways));
        let out = feedback.connect(again.map(|number| number - 1), out);
        let results = block_on(in_time(out.collect())).len();
        let whole: usize = numbers.iter().map(|number| 1 << number).sum();
        let codes = outcomes.codes();
        prop_assert!(codes.iter().all(|code| code == "done" || code == "feedback_full"));
        prop_assert_eq!(results == whole, codes.iter().all(|code| code == "done"));
        let most = *numbers.iter().max().unwrap();
        prop_assert!(most < 7 || results < whole, "128 events do not fit");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_capacity_events_enter_and_they_are_abandoned_when_the_exit_is_dropped() {
    let (flow, outcomes) = Tracked::flow(0..100);
    let (flow, feedback) = flow.feedback(size(3));
    let slow = flow.delay(Duration::from_millis(1), size(9));
    let (again, out) = slow.split(|_| true, size(1));
    let run = feedback.connect(again, out).collect();
    assert!(timeout(Duration::from_secs(1), run).await.is_err(), "the loop never ends");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(outcomes.codes(), ["abandoned"; 3]);
}

#[test]
fn an_event_that_no_step_lets_out_fails_after_its_last_turn_e5() {
    let (flow, outcomes) = Tracked::flow(0..9);
    let (flow, feedback) = flow.feedback(size(2));
    let turns = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&turns);
    let (again, out) = flow.split(|number| number % 3 == 0, size(9));
    let again = again.map(move |number| {
        counter.fetch_add(1, Ordering::Relaxed);
        number
    });
    let feedback = feedback.max_turns(NonZeroU32::new(5).unwrap());
    let mut left = block_on(in_time(feedback.connect(again, out).collect()));
    left.sort_unstable();
    assert_eq!(left, [1, 2, 4, 5, 7, 8]);
    let codes = (0..9).map(|number| if number % 3 == 0 { "feedback_turns" } else { "done" });
    assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
    assert_eq!(turns.load(Ordering::Relaxed), 3 * 5, "each goes round five times");
}

#[tokio::test(start_paused = true)]
async fn an_event_leaves_the_loop_promptly_when_the_program_stops_e5() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let until = async move { drop(end.await) };
    let source = stream::iter(0..99).chain(stream::pending()).take_until(until);
    let (flow, outcomes) = Tracked::stream(source);
    let (flow, feedback) = flow.feedback(size(3));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let feedback = feedback.until(async move { drop(stopped.await) });
    let slow = flow.delay(Duration::from_millis(1), size(9));
    let (again, out) = slow.split(|number| *number != 1, size(1));
    let run = tokio::spawn(feedback.connect(again, out).collect());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(outcomes.codes()[..3], ["open", "done", "open"]);
    drop((stop, ended));
    let left = timeout(Duration::from_millis(10), run).await.expect("it ends").unwrap();
    assert_eq!(left.unwrap(), [1]);
    assert!(outcomes.codes().iter().all(|code| code == "done" || code == "abandoned"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_leaves_makes_room_for_another() {
    let (flow, feedback) = Flow::from_iter(0..9).feedback(size(2));
    let slow = |number| async move {
        let wait = if number == 0 { Duration::MAX } else { Duration::from_millis(1) };
        sleep(wait).await;
        Ok(number)
    };
    let (again, out) = flow.map_async_unordered(slow, size(9)).split(|_| false, size(1));
    let out = feedback.connect(again, out).slice(0, Some(8), size(1));
    assert_eq!(in_time(out.collect()).await, (1..9).collect::<Vec<_>>());
}

#[test]
fn a_failure_inside_does_not_keep_the_loop_from_completing() {
    let (flow, outcomes) = Tracked::flow([3, 4, 5]);
    let (flow, feedback) = flow.feedback(size(9));
    let refuse =
        |number| if number == 2 { Err(Failure::new("two", number)) } else { Ok(number - 2) };
    let (again, out) = flow.try_map(refuse).split(|number| *number > 1, size(1));
    let out = feedback.connect(again, out).partition(size(9), None).into_lists();
    assert_eq!(block_on(in_time(out.collect())), [[1, 1]]);
    assert_eq!(outcomes.codes(), ["done", "two", "done"]);
}

#[test]
fn failures_that_go_back_are_tried_again_until_they_pass() {
    let (flow, outcomes) = Tracked::flow(0..50);
    let (flow, feedback) = flow.map(|number| (number, number % 4)).feedback(size(5));
    let (flow, failures) = flow.catch(size(2), Release::AtOnce);
    let done = flow.try_map(|(number, left)| match left {
        0 => Ok(number),
        _ => Err(Failure::new("not_yet", left)),
    });
    let again = failures.map(|Failed { input: (number, left), .. }| (number, left - 1));
    let out = feedback.connect(again, done);
    assert_eq!(sorted(block_on(in_time(out.collect()))), (0..50).collect::<Vec<_>>());
    assert_eq!(outcomes.codes(), ["done"; 50]);
}

#[test]
fn a_loop_can_have_several_exits_that_are_run_separately() {
    let (flow, outcomes) = Tracked::flow(1..50_u64);
    let (flow, feedback) = flow.feedback(size(4));
    let (odd, even) = flow.split(|number| number % 2 == 1, size(1));
    let odd = feedback.leave(odd).partition(size(99), None).into_lists();
    let (again, large) = even.split(|number| *number < 30, size(1));
    let large = feedback.connect(again.map(|number| number / 2), large);
    let large = large.partition(size(99), None).into_lists();
    let (odd, large) =
        block_on(async { tokio::join!(in_time(odd.collect()), in_time(large.collect())) });
    assert_eq!(odd.concat().len() + large.concat().len(), 49);
    assert_eq!(sorted(large.concat()), (30..50).step_by(2).collect::<Vec<_>>());
    assert_eq!(outcomes.codes(), ["done"; 49]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_flow_that_goes_back_fails_the_run() {
    let (flow, outcomes) = Tracked::flow([1]);
    let (flow, feedback) = flow.feedback(size(4));
    let (again, out) = flow.split(|_| true, size(1));
    let again =
        again.named("again").map(|number| if number > 0 { panic!("once more") } else { number });
    let error = feedback.connect(again, out).collect().await.unwrap_err();
    assert_eq!(error.to_string(), "the stage `again` panicked: once more");
    assert_eq!(outcomes.codes(), ["abandoned"]);
}

#[test]
fn the_graph_shows_the_edge_that_goes_back() {
    let (flow, feedback) = Flow::from_iter([1]).named("retry").feedback(size(1));
    let (again, out) = flow.split(|_| false, size(1));
    let flow = feedback.connect(again.map(|number| number + 1), out).inspect(|_| ());
    let edges: Vec<_> = flow.graph().edges().collect();
    assert_eq!(edges, [(0, 1), (1, 2), (2, 3), (3, 1), (2, 4)]);
    let text = flow.graph().to_mermaid();
    assert!(text.contains("n1{\"retry\"}") && text.contains("n3 --> n1"), "{text}");
    assert!(flow.graph().to_dot().contains("n3 -> n1;"));
}

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use crate::testing::{Tracked, block_on, size};
use crate::{
    Batch, Event, Failure, Flow, Meta, NodeKind, Outcome, Overflow, Receipt, Release, Retry, Settle,
};

const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    IsFiltered,
    Fails,
    FailsOnce,
    BecomesParts(usize),
}

#[derive(Clone, Copy, Debug)]
struct Input {
    number: usize,
    key: u8,
    wait: u64,
    fate: Fate,
}

impl Input {
    /// Returns the answers to the input: its number, and the number of the part or `None` for a
    /// failure.
    fn answers(&self) -> Vec<(usize, Option<usize>)> {
        let parts = match self.fate {
            Fate::Passes | Fate::FailsOnce => 1,
            Fate::BecomesParts(parts) => parts,
            Fate::IsFiltered => 0,
            Fate::Fails => return vec![(self.number, None)],
        };
        (0..parts).map(|part| (self.number, Some(part))).collect()
    }
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let fate = prop_oneof![
        Just(Fate::Passes),
        Just(Fate::IsFiltered),
        Just(Fate::Fails),
        Just(Fate::FailsOnce),
        (0_usize..4).prop_map(Fate::BecomesParts),
    ];
    prop::collection::vec((0_u8..4, 0_u64..30, fate), 0..50).prop_map(|inputs| {
        let inputs = inputs.into_iter().enumerate();
        inputs.map(|(number, (key, wait, fate))| Input { number, key, wait, fate }).collect()
    })
}

async fn slow(input: Input) -> Result<Input, Failure> {
    sleep(MILLISECOND * u32::try_from(input.wait).unwrap()).await;
    Ok(input)
}

/// Reorders its inputs by a retry, concurrent calls, branches and batches.
fn mix(flow: Flow<Input>, window: usize, parallelism: usize) -> Flow<(usize, usize)> {
    let retry = Retry {
        attempts: NonZeroU32::new(2).unwrap(),
        backoff: 7 * MILLISECOND,
        max_backoff: 7 * MILLISECOND,
    };
    let mut attempts = HashMap::new();
    let flow = flow.retry(retry, size(4)).map_async_unordered(slow, size(parallelism));
    let flow = flow.filter(|input| input.fate != Fate::IsFiltered).try_map(move |input| {
        let attempt = attempts.entry(input.number).or_insert(0);
        *attempt += 1;
        if input.fate == Fate::FailsOnce && *attempt == 1 {
            return Err(Failure::new("busy", "").transient());
        }
        Ok(input)
    });
    let (many, one) = flow.split(|input| matches!(input.fate, Fate::BecomesParts(_)), size(3));
    let model = |batch: Batch<Input>| async move {
        if batch.iter().any(|input| input.fate == Fate::Fails) {
            return Err(Failure::new("poison", ""));
        }
        Ok(batch.iter().map(|input| Ok((input.number, 0))).collect())
    };
    let one = one.timed_window(3 * MILLISECOND, size(window)).map_batch(model);
    let parts = |input: Input| {
        let parts = input.answers().into_iter();
        parts.filter_map(|(number, part)| Some((number, part?))).collect::<Vec<_>>()
    };
    one.union(many.map(parts).flatten())
}

fn in_time<T>(run: impl Future<Output = T>) -> T {
    let in_time = block_on(async { timeout(Duration::from_hours(1), run).await });
    in_time.expect("it ends")
}

proptest! {
    #[test]
    fn results_and_answers_to_failures_are_in_the_order_of_their_key(
        inputs in inputs(), capacity in 1_usize..20, window in 1_usize..6, parallelism in 1_usize..9,
    ) {
        let (flow, outcomes) = Tracked::flow(inputs.clone());
        let (flow, failures) = flow.catch(size(64), Release::AtOnce);
        let results = flow.in_order_by(size(capacity), |input| input.key, |flow| mix(flow, window, parallelism));
        let errors = failures.map(|failed| (failed.input.number, None));
        let results = results.map(|(number, part)| (number, Some(part)));
        let answers = in_time(results.rejoin(errors).collect()).unwrap();

        for key in 0..4 {
            let of_key = |answer: &&(usize, Option<usize>)| inputs[answer.0].key == key;
            let expected = inputs.iter().flat_map(Input::answers);
            prop_assert_eq!(
                answers.iter().filter(of_key).copied().collect::<Vec<_>>(),
                expected.filter(|answer| inputs[answer.0].key == key).collect::<Vec<_>>()
            );
        }
        prop_assert_eq!(outcomes.codes(), vec!["done"; inputs.len()]);
    }

    #[test]
    fn inputs_fail_if_their_failures_are_not_caught(inputs in inputs(), capacity in 1_usize..20) {
        let (flow, outcomes) = Tracked::flow(inputs.clone());
        let results = flow.in_order_by(size(capacity), |input| input.key, |flow| mix(flow, 3, 5));
        in_time(results.collect()).unwrap();
        let codes = inputs.iter().map(|input| if input.fate == Fate::Fails { "poison" } else { "done" });
        prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
    }

    #[test]
    fn an_output_of_many_inputs_waits_for_all_inputs_before_its_oldest_and_always_leaves(
        inputs in inputs(), window in 1_usize..5, parallelism in 1_usize..9,
    ) {
        let (flow, outcomes) = Tracked::flow(inputs.clone());
        let lists = flow.in_order_by(size(9), |input| input.key, |flow| {
            let flow = flow.map_async_unordered(slow, size(parallelism));
            let [left, right] = flow.partition(size(window), Some(MILLISECOND)).into_lists().branch(size(2));
            left.zip(right.delay(MILLISECOND, size(2)), size(3)).map(|(list, _)| list)
        });
        let lists = in_time(lists.collect()).unwrap();

        let mut left = vec![false; inputs.len()];
        for list in &lists {
            let oldest = list.iter().map(|input| input.number).min().unwrap();
            for before in &inputs[..oldest] {
                let same_key = list.iter().any(|input| input.key == before.key);
                prop_assert!(left[before.number] || !same_key, "{} before {:?}", before.number, list);
            }
            for input in list {
                prop_assert!(!std::mem::replace(&mut left[input.number], true));
            }
        }
        prop_assert!(left.iter().all(|left| *left));
        prop_assert_eq!(outcomes.codes(), vec!["done"; inputs.len()]);
    }
}

/// Sleeps for the given milliseconds.
async fn sleepy((key, millis): (char, u64)) -> Result<(char, u64), Failure> {
    sleep(Duration::from_millis(millis)).await;
    Ok((key, millis))
}

#[tokio::test(start_paused = true)]
async fn a_slow_input_holds_up_only_its_key() {
    let start = Instant::now();
    let flow = Flow::from_iter([('a', 90), ('a', 10), ('b', 20), ('c', 5), ('c', 15)]);
    let flow = flow.in_order_by(
        size(9),
        |(key, _)| *key,
        |flow| flow.map_async_unordered(sleepy, size(9)),
    );
    let flow = flow.map(move |answer| (answer, start.elapsed().as_millis()));
    let expected =
        [(('c', 5), 5), (('c', 15), 15), (('b', 20), 20), (('a', 90), 90), (('a', 10), 90)];
    assert_eq!(flow.collect().await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn no_more_inputs_than_the_capacity_are_inside_or_wait() {
    let (flow, outcomes) = Tracked::flow(0..99);
    let stuck = |number| async move { if number == 0 { pending().await } else { Ok(number) } };
    let flow = flow.in_order_by(size(5), |_| (), |flow| flow.map_async_unordered(stuck, size(99)));
    let run = tokio::spawn(flow.collect());
    sleep(MILLISECOND).await;
    assert_eq!(outcomes.codes(), ["open"; 5]);
    run.abort();
    run.await.unwrap_err();
    assert_eq!(outcomes.codes(), ["abandoned"; 5], "waiting outputs are dropped as well");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_has_left_is_settled_by_the_sink_and_no_failure_overtakes_it() {
    let (flow, outcomes) = Tracked::flow(0..3);
    let quick_to_fail = |number: u64| async move {
        if number == 1 {
            return Err(Failure::new("one", number));
        }
        sleep(MILLISECOND).await;
        Ok(number)
    };
    let inner = |flow: Flow<u64>| flow.map_async_unordered(quick_to_fail, size(9));
    let mut events = flow.in_order_by(size(9), |_| (), inner).0.stream;
    let first = events.next().await.unwrap();
    assert_eq!(outcomes.codes(), ["open"; 3], "1 has failed, but 0 may not have been taken");
    let last = events.next().await.unwrap();
    assert_eq!(outcomes.codes(), ["open", "one", "open"]);
    drop(events);
    assert_eq!(outcomes.codes(), ["open", "one", "open"]);
    first.receipt.fail(Failure::new("late", 0));
    last.receipt.done();
    assert_eq!(outcomes.codes(), ["late", "one", "done"]);
}

struct Offset(u32);

impl Settle for Offset {
    fn settle(self: Box<Self>, _outcome: Outcome) {}
}

fn offsets(receipt: &Receipt) -> Vec<u32> {
    let mut offsets = Vec::new();
    receipt.visit(&mut |offset: &Offset| offsets.push(offset.0));
    offsets
}

/// Returns a flow of events with offsets, and with these keys. An empty text stands for no key.
fn keyed(keys: [&'static str; 4]) -> Flow<usize> {
    let events = (0..).zip(keys).map(|(offset, key)| {
        let key = if key.is_empty() { None } else { Some(Bytes::from_static(key.as_bytes())) };
        let meta = Arc::new(Meta { key, ..Meta::default() });
        let receipt = Receipt::of(Offset(offset));
        Ok::<_, Infallible>(Event { value: offset as usize, meta, receipt })
    });
    Flow::from_try_events("keyed", stream::iter(events.collect::<Vec<_>>()))
}

fn backwards(flow: Flow<usize>) -> Flow<usize> {
    let late = |number: usize| async move {
        sleep(MILLISECOND * u32::try_from(9 - number).unwrap()).await;
        Ok(number)
    };
    flow.map_async_unordered(late, size(9))
}

#[test]
fn events_are_ordered_by_the_records_key_and_records_without_a_key_are_not() {
    let flow = keyed(["a", "", "a", ""]).in_key_order(size(9), backwards);
    assert_eq!(block_on(flow.collect()).unwrap(), [3, 1, 0, 2]);
}

#[test]
fn the_offsets_of_an_outputs_inputs_are_found_from_its_receipt_inside_and_outside() {
    let look = |event: &Event<Vec<usize>>| {
        let values = event.value.iter().map(|value| u32::try_from(*value).unwrap());
        assert_eq!(offsets(&event.receipt), values.collect::<Vec<_>>());
    };
    let pairs = |flow| {
        let pairs = backwards(flow).partition(size(2), None).into_lists().0;
        Flow(pairs.apply(NodeKind::Element, "look", |pairs, _| pairs.inspect(look)))
    };
    let flow = keyed(["a", "b", "a", "b"]).in_key_order(size(9), pairs);
    let events = block_on(flow.0.stream.collect::<Vec<_>>());
    let of_each: Vec<_> = events.iter().map(|event| offsets(&event.receipt)).collect();
    assert_eq!(of_each, [[1, 0], [3, 2]]);
}

#[test]
fn an_input_that_was_joined_inside_is_open_until_the_sink_settles_it() {
    let (side, sides) = Tracked::flow(["side"]);
    let (flow, outcomes) = Tracked::flow([1, 2]);
    let (side, _failures) = side.catch(size(1), Release::AtOnce);
    let flow = flow.in_order_by(size(9), |_| (), |flow| flow.zip(side, size(1)));
    let mut events = flow.0.stream;
    let event = block_on(events.next()).unwrap();
    assert!(block_on(events.next()).is_none());
    assert_eq!((&*outcomes.codes()[0], &*sides.codes()[0]), ("open", "open"));
    event.receipt.done();
    assert_eq!((&*outcomes.codes()[0], &*sides.codes()[0]), ("done", "done"));
}

#[tokio::test(start_paused = true)]
async fn results_wait_for_an_older_input_that_went_to_another_flow_inside() {
    let start = Instant::now();
    let inner = |flow: Flow<u64>| {
        let (side, rest) = flow.split(|number| *number == 0, size(9));
        let side = side.delay(9 * MILLISECOND, size(9));
        tokio::spawn(side.sink_fn(drop).run());
        rest
    };
    let flow = Flow::from_iter([0, 1, 2]).in_order_by(size(9), |_| (), inner);
    assert_eq!(flow.collect().await.unwrap(), [1, 2]);
    assert_eq!(start.elapsed(), 9 * MILLISECOND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn order_is_kept_when_the_operators_inside_run_on_several_threads() {
    let (flow, failures) = Flow::from_iter(0..5_000_u64).catch(size(64), Release::AtOnce);
    let inner = |flow: Flow<u64>| {
        let (quick, mixed) = flow.split(|number| number % 3 == 0, size(8));
        let yielding = |number| async move {
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            if number % 5 == 0 { Err(Failure::new("five", number)) } else { Ok(number) }
        };
        let mixed = mixed.map_async_unordered(yielding, size(7)).buffer(size(5), Overflow::Wait);
        quick.union(mixed)
    };
    let results = flow.in_order_by(size(50), |number| number % 10, inner);
    let run = results.rejoin(failures.map(|failed| failed.input)).collect();
    let answers =
        timeout(Duration::from_mins(1), tokio::spawn(run)).await.unwrap().unwrap().unwrap();
    for key in 0..10 {
        let of_key = answers.iter().copied().filter(|number| number % 10 == key);
        assert!(of_key.eq((key..5_000).step_by(10)), "{key}");
    }
}

#[test]
fn an_event_that_is_detached_inside_leaves_at_once() {
    let flow = keyed(["a", "a", "a", "a"]).in_key_order(size(9), |flow| backwards(flow.detach()));
    assert_eq!(block_on(flow.collect()).unwrap(), [3, 2, 1, 0]);
}

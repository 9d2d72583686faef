//! Compares joins of branches with a model that hands each event to one branch after the other, as a
//! synchronous stream library does.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::testing::{block_on, size, timed};
use crate::{Breaker, EmitOn, Empty, Flow, Ratio, Release};

const CAPACITY: usize = 4;

fn first(value: u8) -> Vec<u8> {
    if value.is_multiple_of(3) { vec![] } else { vec![value; usize::from(value % 3)] }
}

fn second(value: u8) -> Vec<u8> {
    if value.is_multiple_of(2) { vec![value, value + 1] } else { vec![] }
}

/// Returns two branches of a flow: one filters, the other makes several events of one.
fn branches(values: &[u8]) -> (Flow<u8>, Flow<u8>) {
    let [left, right] = Flow::from_iter(values.to_vec()).branch(size(CAPACITY));
    (left.map(first).flatten(), right.map(second).flatten())
}

/// The events that reach a join, in the model's order: the side, and the value.
fn model(values: &[u8]) -> Vec<(usize, u8)> {
    let sides = |value: &u8| {
        let first = first(*value).into_iter().map(|value| (0, value));
        first.chain(second(*value).into_iter().map(|value| (1, value))).collect::<Vec<_>>()
    };
    values.iter().flat_map(sides).collect()
}

proptest! {
    #[test]
    fn a_union_of_branches_has_the_order_of_the_flow(values: Vec<u8>) {
        let (left, right) = branches(&values);
        let both = left.map(|value| (0, value)).union(right.map(|value| (1, value)));
        prop_assert_eq!(block_on(both.collect()).unwrap(), model(&values));
    }

    #[test]
    fn a_union_of_a_split_restores_the_flow(values: Vec<u8>) {
        let (left, right) = Flow::from_iter(values.clone()).split(|x| x % 3 == 0, size(CAPACITY));
        prop_assert_eq!(block_on(left.union(right).collect()).unwrap(), values);
    }

    #[test]
    fn combine_latest_of_branches_agrees_with_the_model(values: Vec<u8>, emits in 0..3_usize) {
        let (left, right) = branches(&values);
        let emit_on = [EmitOn::Any, EmitOn::First, EmitOn::Second][emits];
        let mut newest = [None, None];
        let mut expected = Vec::new();
        for (side, value) in model(&values) {
            newest[side] = Some(value);
            let emits = emit_on == EmitOn::Any || (emit_on == EmitOn::First) == (side == 0);
            if let ([Some(left), Some(right)], true) = (newest, emits) {
                expected.push((left, right));
            }
        }
        prop_assert_eq!(block_on(left.combine_latest(right, emit_on).collect()).unwrap(), expected);
    }

    #[test]
    fn zip_latest_of_branches_agrees_with_the_model(values: Vec<u8>) {
        // Before the first event of the other side, this side's events wait in their branch.
        let waiting = values.iter().take_while(|value| second(**value).is_empty()).count();
        prop_assume!(waiting <= CAPACITY);
        let (left, right) = branches(&values);
        let mut newest = None;
        let mut waiting = Vec::new();
        let mut expected = Vec::new();
        for (side, value) in model(&values) {
            if side == 0 {
                waiting.push(value);
            } else {
                newest = Some(value);
            }
            if let Some(newest) = newest {
                expected.extend(waiting.drain(..).map(|value| (value, newest)));
            }
        }
        prop_assert_eq!(block_on(left.zip_latest(right).collect()).unwrap(), expected);
    }

    #[test]
    fn a_flush_from_the_same_flow_takes_the_events_before_it(values: Vec<u8>, max_size in 1..9_usize) {
        let (left, right) = branches(&values);
        let mut expected = vec![vec![]];
        for (side, value) in model(&values) {
            let last = expected.last_mut().unwrap();
            if side == 0 {
                last.push(value);
            }
            if side == 1 || last.len() == max_size {
                expected.push(vec![]);
            }
        }
        expected.retain(|batch| !batch.is_empty());
        let batches = left.collect_until(right, size(max_size), Empty::Skip).into_lists();
        prop_assert_eq!(block_on(batches.collect()).unwrap(), expected);
    }

    #[test]
    fn joins_of_joins_keep_the_order(values: Vec<u8>) {
        // Three branches of one flow, and two branches of the second one.
        let [a, b, c] = Flow::from_iter(values.clone()).branch(size(CAPACITY));
        let [d, e] = b.map(second).flatten().branch(size(CAPACITY));
        let tag = |tag| move |value: u8| (tag, value);
        let inner = d.map(tag('d')).union(e.map(tag('e')));
        let all = a.map(tag('a')).union(inner).union(c.map(tag('c')));
        let expected = values.iter().flat_map(|&value| {
            let inner = second(value).into_iter().flat_map(|value| [('d', value), ('e', value)]);
            let all = [('a', value)].into_iter().chain(inner).chain([('c', value)]);
            all.collect::<Vec<_>>()
        });
        prop_assert_eq!(block_on(all.collect()).unwrap(), expected.collect::<Vec<_>>());
    }
}

#[test]
fn operators_that_wrap_receipts_keep_the_order() {
    let [left, right] = Flow::from_iter(0..20).branch(size(CAPACITY));
    let breaker = Breaker { ratio: Ratio::new(1.0).unwrap(), of: size(9), run: None };
    let (right, failures) = right.breaker(breaker).catch(size(CAPACITY), Release::AtOnce);
    let right = right.filter(|x| x % 2 == 0);
    let pairs = left.combine_latest(right, EmitOn::First);
    let (pairs, failures) =
        block_on(async { tokio::join!(pairs.collect(), failures.map(|_| ()).collect()) });
    let expected: Vec<_> = (1..20).map(|n| (n, (n - 1) / 2 * 2)).collect();
    assert_eq!((pairs.unwrap(), failures.unwrap().len()), (expected, 0));
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_works_asynchronously_is_waited_for() {
    let [left, right] = Flow::from_iter(0..6_u64).branch(size(CAPACITY));
    let slow = |value: u64| async move {
        sleep(Duration::from_millis(30 - 5 * value)).await;
        Ok(value)
    };
    let right = right.map_async(slow, size(2));
    let pairs = left.combine_latest(right, EmitOn::Any).collect().await.unwrap();
    let expected =
        (0..6).flat_map(|n| if n == 0 { vec![(0, 0)] } else { vec![(n, n - 1), (n, n)] });
    assert_eq!(pairs, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_for_a_branch_that_holds_events_only_once_until_it_has_caught_up() {
    let [left, right] = Flow::from_stream(timed((0..40).collect())).branch(size(CAPACITY));
    let right = right.timed_window(Duration::from_secs(1), size(100)).into_lists();
    let began = Instant::now();
    let right = right.map(|batch| batch.len() as u64);
    let both = left.waiting(Duration::from_millis(100)).union(right);
    let seen = both.map(move |value| (value, began.elapsed().as_millis())).collect();
    let seen = seen.await.unwrap();
    assert_eq!(seen.len(), 41);
    // Event 1 waits, because event 0 is in the window, and the events behind it wait for it.
    assert_eq!(seen[0], (0, 0));
    assert_eq!(seen[1..40], (1..40).map(|value| (value, 101)).collect::<Vec<_>>());
    assert_eq!(seen[40].0, 40, "the window");
}

#[tokio::test(start_paused = true)]
async fn a_union_does_not_wait_for_a_branch_that_works_asynchronously() {
    let (left, right) = Flow::from_iter([1, 2, 3, 4_u64]).split(|x| x % 2 == 1, size(CAPACITY));
    let slow = |value: u64| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(value)
    };
    let both = left.map_async(slow, size(1)).union(right);
    assert_eq!(both.collect().await.unwrap(), [2, 4, 1, 3]);
}

#[tokio::test]
async fn a_union_that_does_not_wait_gives_its_events_no_marks() {
    let both = |slow: bool| async move {
        let (left, right) = Flow::from_iter(0..4).split(|x| x % 2 == 1, size(CAPACITY));
        let left = if slow { left.map_async(|x| async move { Ok(x) }, size(1)) } else { left };
        let events = left.union(right).0.stream.collect::<Vec<_>>().await;
        events.iter().filter(|event| event.receipt.marks.is_empty()).count()
    };
    assert_eq!((both(false).await, both(true).await), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_union_waits_if_it_is_told_to() {
    let (left, right) = Flow::from_iter([1, 2, 3, 4_u64]).split(|x| x % 2 == 1, size(CAPACITY));
    let slow = |value: u64| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(value)
    };
    let both = left.map_async(slow, size(1)).waiting(Duration::from_secs(9)).union(right);
    assert_eq!(both.collect().await.unwrap(), [1, 2, 3, 4]);
}

#[test]
fn flows_of_different_sources_are_merged_as_they_come() {
    let left = Flow::from_stream(stream::pending::<u8>());
    let [right, _rest] = Flow::from_iter([1, 2]).branch(size(CAPACITY));
    let both = left.union(right).slice(0, Some(2), size(1));
    assert_eq!(block_on(both.collect()).unwrap(), [1, 2]);
}

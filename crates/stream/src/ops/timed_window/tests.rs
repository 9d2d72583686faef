use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, sleep_until};

use crate::testing::{self, Tracked, block_on, size};
use crate::{Empty, Flow, Keep, Outcome};

const TICK: Duration = Duration::from_millis(10);

fn timed(at: &[u64]) -> Flow<u64> {
    let start = Instant::now();
    let at = at.to_vec();
    Flow::from_stream(stream::iter(at).then(move |at| async move {
        sleep_until(start + Duration::from_millis(at)).await;
        at
    }))
}

/// Returns each batch with the time at which it came, in milliseconds on the paused clock.
async fn batches(flow: Flow<u64>, max_size: usize) -> Vec<(Vec<u64>, u128)> {
    let start = Instant::now();
    let windows = flow.timed_window(TICK, size(max_size)).into_lists();
    windows.map(move |list| (list, start.elapsed().as_millis())).collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn windows_close_at_each_tick_and_a_tick_without_events_makes_no_batch() {
    let seen = batches(timed(&[1, 2, 12, 45]), 10).await;
    assert_eq!(seen, [(vec![1, 2], 10), (vec![12], 20), (vec![45], 45)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_window_closes_early_and_does_not_move_the_ticks() {
    let seen = batches(timed(&[1, 2, 3, 14, 99]), 2).await;
    assert_eq!(seen, [(vec![1, 2], 2), (vec![3], 10), (vec![14], 20), (vec![99], 99)]);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_due_keeps_filling_while_downstream_is_busy() {
    let mut windows = timed(&[1, 11, 12, 13, 80]).timed_window(TICK, size(3)).into_lists().0.stream;
    assert_eq!(windows.next().await.unwrap().value, [1]);
    sleep(Duration::from_millis(35)).await;
    assert_eq!(windows.next().await.unwrap().value, [11, 12, 13]);
}

#[tokio::test(start_paused = true)]
async fn with_empty_emit_each_tick_without_events_makes_an_empty_window() {
    let start = Instant::now();
    let (flow, outcomes) = Tracked::stream(testing::timed(vec![1, 2, 3, 12, 45]));
    let windows = flow.timed_window_with(TICK, size(2), Empty::Emit);
    let windows = windows.into_lists().map(move |list| (list, start.elapsed().as_millis()));
    let expected = [
        (vec![1, 2], 2),
        (vec![3], 10),
        (vec![12], 20),
        (vec![], 30),
        (vec![], 40),
        (vec![45], 45),
    ];
    assert_eq!(windows.collect().await.unwrap(), expected);
    assert_eq!(outcomes.codes(), ["done"; 5]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_window_flattens_to_nothing() {
    let windows = || timed(&[35, 36]).timed_window_with(TICK, size(9), Empty::Emit);
    let (values, lengths) =
        tokio::join!(windows().flatten().collect(), windows().lengths().collect());
    assert_eq!(values.unwrap(), [35, 36]);
    assert_eq!(lengths.unwrap(), [0, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_make_one_empty_window_and_do_not_move_later_ticks() {
    let start = Instant::now();
    let windows = timed(&[99]).timed_window_with(TICK, size(9), Empty::Emit).into_lists();
    let mut windows = windows.0.stream;
    let mut at = Vec::new();
    for pause in [35, 0, 0] {
        assert!(windows.next().await.unwrap().value.is_empty());
        at.push(start.elapsed().as_millis());
        sleep(Duration::from_millis(pause)).await;
    }
    assert_eq!(at, [10, 45, 50]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_interval_does_not_panic() {
    for empty in [Empty::Skip, Empty::Emit] {
        let windows = timed(&[1, 2]).timed_window_with(Duration::MAX, size(9), empty);
        assert_eq!(windows.into_lists().collect().await.unwrap(), [[1, 2]]);
    }
}

#[tokio::test]
async fn windows_close_at_each_tick_although_repeats_come_without_a_pause() {
    let repeats = Flow::from_iter((0..300_000).map(|number| number % 2));
    let beat = Duration::from_millis(1);
    let windows = repeats.timed_window_unique(beat, size(3), |number| *number, Keep::Last);
    assert!(windows.into_lists().collect().await.unwrap().len() > 1);
}

#[tokio::test(start_paused = true)]
async fn each_window_has_its_own_keys() {
    for (keep, expected) in [
        (Keep::First, [(vec![1, 2], 10), (vec![13], 20), (vec![35], 35)]),
        (Keep::Last, [(vec![2, 5], 10), (vec![17], 20), (vec![35], 35)]),
    ] {
        let start = Instant::now();
        let windows = timed(&[1, 2, 5, 13, 17, 35]);
        let windows = windows.timed_window_unique(TICK, size(10), |at| at % 2, keep);
        let windows = windows.into_lists().map(move |list| (list, start.elapsed().as_millis()));
        assert_eq!(windows.collect().await.unwrap(), expected);
    }
}

proptest! {
    #[test]
    fn without_ticks_batches_agree_with_partition_unique_and_superseded_events_are_done(
        keys in prop::collection::vec(0_u8..6, 0..60), n in 1_usize..5, last: bool,
    ) {
        let keep = if last { Keep::Last } else { Keep::First };
        let flow = Flow::from_iter(keys.clone()).partition_unique(size(n), |key| *key, keep);
        let expected = block_on(flow.into_lists().collect()).unwrap();
        let (flow, outcomes) = Tracked::flow(keys.clone());
        let flow = flow.timed_window_unique(TICK, size(n), |key| *key, keep).into_lists();
        prop_assert_eq!(block_on(flow.collect()).unwrap(), expected);
        prop_assert_eq!(outcomes.all(), vec![Outcome::Done; keys.len()]);
    }

    #[test]
    fn windows_lose_nothing_reorder_nothing_and_respect_the_size(
        gaps in prop::collection::vec(0_u64..15, 0..60), max_size in 1_usize..6,
    ) {
        let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
        let seen = block_on(async { batches(timed(&at), max_size).await });
        prop_assert!(seen.iter().all(|(batch, _)| (1..=max_size).contains(&batch.len())));
        for (batch, emitted) in &seen {
            for &arrived in batch {
                prop_assert!(*emitted <= u128::from(arrived) + TICK.as_millis());
            }
        }
        prop_assert_eq!(seen.into_iter().flat_map(|(batch, _)| batch).collect::<Vec<_>>(), at);
    }
}

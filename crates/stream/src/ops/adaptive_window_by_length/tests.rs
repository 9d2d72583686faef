use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt as _;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::batching::{BatchLoad, CostModel, Shapes};
use crate::testing::{Tracked, block_on, size, timed};
use crate::{AdaptiveWindow, Batches, Failure, Flow, Meta};

/// Returns costs of 3 ms for a call and 2 us for an element.
fn costs() -> Arc<CostModel> {
    let costs = CostModel::new(Shapes::padded());
    for (size, length) in [(1, 8), (16, 8), (1, 128), (16, 128)] {
        let load: BatchLoad = std::iter::repeat_n(length, size).collect();
        costs.seed(load, Duration::from_micros(3000 + 2 * costs.shapes().elements(load)));
    }
    Arc::new(costs)
}

fn limits(max_size: usize, max_wait: u64, max_cost: u64) -> AdaptiveWindow {
    AdaptiveWindow { max_size: size(max_size), max_wait: Duration::from_millis(max_wait), max_cost }
}

/// Returns windows of values. Each value is its own length, and no event has a deadline.
fn windows(flow: Flow<u64>, limits: AdaptiveWindow) -> Batches<u64> {
    flow.adaptive_window_by_length(limits, costs(), |value| *value, |_| Ok(None))
}

/// Gives the batches to a device that takes 10 ms for each. Returns each batch with the millisecond
/// at which the device got it.
async fn given(windows: Batches<u64>) -> Vec<(Vec<u64>, u128)> {
    let start = Instant::now();
    let device = move |list| async move {
        let begun = start.elapsed().as_millis();
        sleep(Duration::from_millis(10)).await;
        Ok((list, begun))
    };
    windows.into_lists().map_async(device, NonZeroUsize::MIN).collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_device_gets_each_event_at_once_and_a_busy_one_gets_gathered_events() {
    let flow = Flow::from_stream(timed(vec![0, 1, 2, 3, 30]));
    let seen = given(windows(flow, limits(64, 0, u64::MAX))).await;
    assert_eq!(seen, [(vec![0], 0), (vec![1, 2, 3], 10), (vec![30], 30)]);
}

#[tokio::test(start_paused = true)]
async fn the_wait_runs_from_when_the_first_event_came_even_while_the_device_was_busy() {
    let flow = Flow::from_stream(timed(vec![0, 20, 22, 34, 36, 100]));
    let seen = given(windows(flow, limits(64, 15, u64::MAX))).await;
    // The event at 34 came while the batch of the event at 20 was gathered. The event at 36 came
    // while the device was busy, and its wait of 15 ms began then.
    assert_eq!(seen, [(vec![0], 15), (vec![20, 22, 34], 35), (vec![36], 51), (vec![100], 100)]);
}

/// Reads the deadline of an event from its position, in milliseconds after `start`.
fn due(start: Instant) -> impl Fn(&Meta) -> Result<Option<Instant>, Failure> + Send + 'static {
    move |meta| {
        let due = start + Duration::from_millis(meta.origin.position);
        if due <= Instant::now() { Err(Failure::new("late", "")) } else { Ok(Some(due)) }
    }
}

/// Returns a flow of events that come at the milliseconds in `at`. The position of each event is
/// its deadline, from `deadlines`.
fn with_deadlines(at: Vec<u64>, deadlines: Vec<u64>) -> (Flow<u64>, Tracked) {
    let deadlines = parking_lot::Mutex::new(deadlines.into_iter());
    let (flow, outcomes) = Tracked::stream(timed(at));
    let flow = Flow(flow.0.apply(crate::NodeKind::Element, "deadline", |events, _| {
        events.map(move |mut event| {
            let deadline = deadlines.lock().next().unwrap();
            let origin = crate::Origin { position: deadline, ..crate::Origin::default() };
            event.meta = Arc::new(Meta { origin, ..Meta::default() });
            event
        })
    }));
    (flow, outcomes)
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_goes_first_and_late_events_take_no_time_of_the_device() {
    let (flow, outcomes) = with_deadlines(vec![0, 1, 2, 3, 4], vec![50, 40, 30, 8, 35]);
    let windows =
        flow.adaptive_window_by_length(limits(2, 0, u64::MAX), costs(), |_| 8, due(Instant::now()));
    let seen = given(windows).await;
    assert_eq!(seen, [(vec![0], 0), (vec![2, 4], 10), (vec![1], 20)]);
    assert_eq!(outcomes.codes(), ["done", "done", "done", "late", "done"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_become_late_while_they_wait_take_no_time_of_the_device() {
    let (flow, outcomes) = with_deadlines(vec![0, 1, 2], vec![50, 12, 15]);
    let windows =
        flow.adaptive_window_by_length(limits(1, 0, u64::MAX), costs(), |_| 8, due(Instant::now()));
    assert_eq!(given(windows).await, [(vec![0], 0), (vec![1], 10)]);
    assert_eq!(outcomes.codes(), ["done", "done", "late"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_cut_short_by_a_deadline_that_would_be_missed() {
    let (flow, _outcomes) = with_deadlines(vec![0, 10, 900], vec![500, 60, 2000]);
    let windows = flow.adaptive_window_by_length(
        limits(9, 100, u64::MAX),
        costs(),
        |_| 8,
        due(Instant::now()),
    );
    let seen = given(windows).await;
    // The batch leaves 4 ms before the deadline at 60: a call takes about 3 ms, and timers may be 1
    // ms late.
    assert_eq!(seen[0], (vec![0, 10], 56));
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_deadline_is_as_urgent_as_one_that_is_due_in_a_second() {
    // Events come twice as fast as the device takes them. All have a near deadline, except the one
    // that comes at 1.
    let at: Vec<_> = [0, 1].into_iter().chain((1..200).map(|n| n * 5)).collect();
    let near = move |meta: &Meta| {
        Ok(meta.header("near").map(|_| Instant::now() + Duration::from_millis(900)))
    };
    let flow = Flow::from_stream(timed(at));
    let flow = Flow(flow.0.apply(crate::NodeKind::Element, "near", |events, _| {
        events.map(|mut event| {
            let header = crate::Header { name: "near".into(), value: Some(bytes::Bytes::new()) };
            let headers = if event.value == 1 { vec![] } else { vec![header] };
            event.meta = Arc::new(Meta { headers, ..Meta::default() });
            event
        })
    }));
    let windows = flow.adaptive_window_by_length(limits(1, 0, u64::MAX), costs(), |_| 8, near);
    let seen = given(windows).await;
    let (_, when) = seen.iter().find(|(list, _)| *list == [1]).unwrap();
    // Event 1 is as urgent as an event that is due at 1001. The near deadlines of about the first
    // 20 events are earlier, so the device takes these first, 10 ms each.
    assert!((200..=220).contains(when), "{when}");
}

#[test]
fn batches_are_counted_by_the_reason_why_they_left() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        block_on(async {
            // The first, the second and the last event leave at once (idle), and the five that come
            // while the device is busy leave as a full batch (size).
            let flow = Flow::from_stream(timed(vec![0, 31, 31, 31, 31, 31, 31, 60]));
            assert_eq!(given(windows(flow, limits(5, 0, u64::MAX))).await.len(), 4);
            // The first two leave when their wait is over, and the last when upstream has ended.
            let flow = Flow::from_stream(timed(vec![0, 1, 30]));
            assert_eq!(given(windows(flow, limits(5, 9, u64::MAX))).await.len(), 2);
        });
    });
    let mut counts: Vec<_> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "forebay_batches_total")
        .filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) if count > 0 => {
                let reason = key.key().labels().find(|label| label.key() == "reason").unwrap();
                Some((reason.value().to_owned(), count))
            }
            _ => None,
        })
        .collect();
    counts.sort();
    let expected = [("drain", 1), ("idle", 3), ("size", 1), ("wait", 1)];
    assert_eq!(counts, expected.map(|(reason, count)| (reason.to_owned(), count)));
}

proptest! {
    #[test]
    fn every_event_is_in_one_batch_within_the_limits(
        values in prop::collection::vec(1_u64..300, 0..200),
        max_size in 1_usize..40, max_cost in 1_u64..3000, max_wait in 0_u64..3,
    ) {
        let (flow, outcomes) = Tracked::flow(values.clone());
        let lists = block_on(windows(flow, limits(max_size, max_wait, max_cost)).into_lists().collect()).unwrap();
        for list in &lists {
            let load: BatchLoad = list.iter().copied().collect();
            prop_assert!(!list.is_empty() && list.len() <= max_size);
            prop_assert!(list.len() == 1 || Shapes::padded().elements(load) <= max_cost);
        }
        let mut seen = lists.concat();
        let mut values = values;
        seen.sort_unstable();
        values.sort_unstable();
        prop_assert_eq!(outcomes.codes(), vec!["done"; values.len()]);
        prop_assert_eq!(seen, values);
    }
}

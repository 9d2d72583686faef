use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::stream::StreamExt as _;
use proptest::prelude::*;
use tokio::sync::{Barrier, Semaphore};

use crate::testing::{Tracked, block_on, size};
use crate::{Batch, BatchResult, Empty, Failure, Flow, MapBatch, Pace};

proptest! {
    #[test]
    fn a_member_that_fails_its_whole_batch_fails_alone(values in prop::collection::vec(0_u8..20, 0..60), n in 1_usize..20) {
        let (flow, outcomes) = Tracked::flow(values.clone());
        let double = |batch: Batch<u8>| async move {
            if batch.contains(&13) {
                return Err(Failure::new("poison", "13"));
            }
            Ok(batch.iter().map(|&v| if v == 7 { Err(Failure::new("seven", v)) } else { Ok(v * 2) }).collect())
        };
        let doubled = block_on(flow.partition(size(n), None).map_batch(double).collect()).unwrap();

        let good = values.iter().filter(|&&v| v != 13 && v != 7).map(|v| v * 2);
        prop_assert_eq!(doubled, good.collect::<Vec<_>>());
        let codes = values.iter().map(|v| match v { 13 => "poison", 7 => "seven", _ => "done" });
        prop_assert_eq!(outcomes.codes(), codes.collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_with_a_transient_failure_is_tried_again_unchanged_once_and_then_in_halves() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    for (fails_at, expected) in [(1, vec![3, 3]), (2, vec![3, 3, 2, 1])] {
        calls.lock().clear();
        let seen = Arc::clone(&calls);
        let flaky = move |batch: Batch<u8>| {
            seen.lock().push(batch.len());
            let fails = seen.lock().len() <= fails_at;
            async move {
                if fails {
                    return Err(Failure::new("lost", "the device").transient());
                }
                Ok(batch.iter().map(|value| Ok(*value)).collect())
            }
        };
        let values = Flow::from_iter([1, 2, 3]).partition(size(3), None).map_batch(flaky);
        assert_eq!(block_on(values.collect()).unwrap(), [1, 2, 3]);
        assert_eq!(*calls.lock(), expected);
    }
}

/// Takes two batches at a time, and finishes none before it has both.
struct Pairs(Barrier);

impl MapBatch<u8> for Pairs {
    type Output = u8;

    async fn call(&self, batch: Batch<u8>) -> BatchResult<u8> {
        self.0.wait().await;
        Ok(batch.iter().map(|value| Ok(*value)).collect())
    }

    fn pace(&self) -> Pace {
        Pace::new(size(2))
    }
}

/// Takes two batches at a time, and finishes the batch that begins with 0 after the other one.
struct FirstIsLast {
    keeps_order: bool,
    others: Semaphore,
}

impl MapBatch<u8> for FirstIsLast {
    type Output = u8;

    async fn call(&self, batch: Batch<u8>) -> BatchResult<u8> {
        if batch[0] == 0 {
            self.others.acquire().await.unwrap().forget();
        } else {
            self.others.add_permits(1);
        }
        Ok(batch.iter().map(|value| Ok(*value)).collect())
    }

    fn pace(&self) -> Pace {
        let two = Pace::new(size(2));
        if self.keeps_order { two.in_order() } else { two }
    }
}

#[test]
fn results_wait_for_earlier_batches_only_if_the_order_is_kept() {
    for (keeps_order, expected) in [(true, [0, 1, 2, 3]), (false, [2, 3, 0, 1])] {
        let last = FirstIsLast { keeps_order, others: Semaphore::new(0) };
        let flow = Flow::from_iter(0..4).partition(size(2), None).map_batch(last);
        assert_eq!(block_on(flow.collect()).unwrap(), expected);
    }
}

#[test]
fn as_many_batches_run_at_the_same_time_as_there_are_slots() {
    let pairs = Pairs(Barrier::new(2));
    let flow = Flow::from_iter(0..12).partition(size(3), None).map_batch(pairs);
    let mut values = block_on(flow.collect()).unwrap();
    values.sort_unstable();
    assert_eq!(values, (0..12).collect::<Vec<_>>());
}

#[test]
fn one_further_batch_is_started_while_results_are_taken() {
    block_on(async {
        let started = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&started);
        let count = move |batch: Batch<i32>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok(batch.iter().map(|value| Ok(*value)).collect()) }
        };
        let mut results = Flow::from_iter(0..).partition(size(3), None).map_batch(count).0.stream;
        for (taken, expected) in [(1, 2), (3, 2), (4, 3), (6, 3), (7, 4)] {
            while started.load(Ordering::Relaxed) < 9 {
                let value = results.next().await.unwrap().value;
                if value + 1 == taken {
                    break;
                }
            }
            assert_eq!(started.load(Ordering::Relaxed), expected, "after {taken}");
        }
    });
}

/// Is ready once for each permit that the test adds, and takes several batches at a time.
struct WhenTold {
    permits: Arc<Semaphore>,
    started: Arc<AtomicUsize>,
}

impl MapBatch<i32> for WhenTold {
    type Output = i32;

    async fn call(&self, batch: Batch<i32>) -> BatchResult<i32> {
        self.started.fetch_add(1, Ordering::Relaxed);
        Ok(batch.iter().map(|value| Ok(*value)).collect())
    }

    fn pace(&self) -> Pace {
        let permits = Arc::clone(&self.permits);
        Pace::new(size(4)).when(move || {
            let permits = Arc::clone(&permits);
            async move { permits.acquire().await.unwrap().forget() }
        })
    }
}

#[test]
fn no_batch_is_taken_before_the_function_is_ready() {
    block_on(async {
        let (permits, started, taken) =
            (Arc::new(Semaphore::new(2)), Arc::default(), Arc::default());
        let counted = Arc::clone(&taken);
        let told = Arc::clone(&permits);
        let when_told = WhenTold { permits: told, started: Arc::clone(&started) };
        let values = Flow::from_iter(0..).map(move |value| {
            AtomicUsize::fetch_add(&counted, 1, Ordering::Relaxed);
            value
        });
        let mut results = values.partition(size(1), None).map_batch(when_told).0.stream;
        let seen = || (started.load(Ordering::Relaxed), taken.load(Ordering::Relaxed));
        assert_eq!(results.next().await.unwrap().value, 0);
        assert_eq!(results.next().await.unwrap().value, 1);
        assert!(results.next().now_or_never().is_none());
        assert_eq!(seen(), (2, 2), "the third batch was not taken");
        permits.add_permits(1);
        assert_eq!(results.next().await.unwrap().value, 2);
        assert_eq!(seen(), (3, 3));
    });
}

#[test]
fn an_empty_batch_makes_no_call() {
    let flow = Flow::from_iter([7]).collect_until(Flow::from_iter([(); 3]), size(1), Empty::Emit);
    let calls = |batch: Batch<i32>| {
        assert!(!batch.is_empty(), "a model cannot take an empty batch");
        async move { Ok(batch.iter().map(|value| Ok(*value)).collect()) }
    };
    assert_eq!(block_on(flow.map_batch(calls).collect()).unwrap(), [7]);
}

#[test]
fn a_wrong_number_of_results_fails_every_member_and_says_so() {
    let (flow, outcomes) = Tracked::flow([1, 2, 3]);
    let forgetful =
        |batch: Batch<i32>| async move { Ok(batch.iter().skip(1).map(|v| Ok(*v)).collect()) };
    let results = block_on(flow.partition(size(3), None).map_batch(forgetful).collect()).unwrap();
    assert!(results.is_empty());
    let said: BTreeSet<_> = outcomes.all().iter().map(|outcome| format!("{outcome:?}")).collect();
    assert_eq!(outcomes.codes(), ["wrong_result_count"; 3]);
    assert!(said.first().unwrap().contains("2 results for a batch of 3"), "{said:?}");
}

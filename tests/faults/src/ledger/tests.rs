//! Each check of the ledger with answers that pass it and answers that fail it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Duplicates, Ledger, Order, Rules};
use crate::client::Offsets;
use crate::pipeline::Delivery;
use crate::request_format::Kind;
use crate::violation::Invariant;

fn ledger(delivery: Delivery, duplicates: Duplicates) -> Ledger {
    let patience = Duration::from_secs(1);
    let rules = Rules { delivery, duplicates, order: Order::Results, patience, tamper: None };
    Ledger::new("t-".into(), rules)
}

/// Three requests of one key, at the offsets 0, 1 and 2 of partition 0.
fn asked(delivery: Delivery, duplicates: Duplicates) -> Ledger {
    let mut ledger = ledger(delivery, duplicates);
    for offset in 0..3 {
        ledger.ask(Some(1), Kind::Good);
        ledger.produced(&json!({"acks": [[offset, 0, offset]]}));
    }
    ledger
}

fn answer(ledger: &mut Ledger, number: u64) {
    let line = json!({"records": [reply(number)], "positions": {}});
    ledger.read("replies", &line);
}

fn reply(number: u64) -> Value {
    let id = format!("t-{number}");
    let value = json!({"id": id, "seq": number + 1, "n": number, "twice": 2 * number});
    json!({"k": "key-1", "v": value.to_string(), "p": 0, "home": 0, "h": {
        "id": id, "kafka_correlationId": id,
        "traceparent": format!("00-{:032x}-0000000000000007-01", number + 1),
    }})
}

fn broken(ledger: &Ledger) -> Vec<Invariant> {
    ledger.violations().iter().map(|violation| violation.invariant).collect()
}

#[test]
fn one_answer_per_request_in_order_breaks_no_invariant() {
    let mut ledger = asked(Delivery::ExactlyOnce, Duplicates::None);
    (0..3).for_each(|number| answer(&mut ledger, number));
    assert_eq!(broken(&ledger), []);
    assert!(ledger.is_quiet());
    assert_eq!(ledger.ends(), Offsets::from([(0, 3)]));
}

#[test]
fn a_request_without_an_answer_stays_open() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::None);
    answer(&mut ledger, 0);
    answer(&mut ledger, 2);
    assert!(!ledger.is_quiet());
    assert_eq!(ledger.first_open(0), Some((1, "t-1".into())));
    assert_eq!(ledger.unanswered().0, 1);
}

#[test]
fn a_second_answer_breaks_exactly_once() {
    let mut ledger = asked(Delivery::ExactlyOnce, Duplicates::Counted);
    answer(&mut ledger, 0);
    answer(&mut ledger, 0);
    assert_eq!(broken(&ledger), [Invariant::ExactlyOnce]);
}

#[test]
fn a_second_answer_without_a_fault_breaks_at_least_once() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::None);
    answer(&mut ledger, 0);
    answer(&mut ledger, 0);
    assert_eq!(broken(&ledger), [Invariant::BoundedDuplicates]);
}

#[test]
fn after_a_kill_only_uncommitted_requests_may_be_answered_again() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::Bounded);
    answer(&mut ledger, 0);
    answer(&mut ledger, 1);
    ledger.take_over(&Offsets::from([(0, 1)]), 5);
    assert_eq!(ledger.allowance(), 6);
    answer(&mut ledger, 1);
    assert_eq!(broken(&ledger), []);
    answer(&mut ledger, 0);
    assert_eq!(broken(&ledger), [Invariant::BoundedDuplicates]);
}

#[test]
fn only_a_first_answer_out_of_key_order_breaks_the_invariant() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::Counted);
    (0..3).for_each(|number| answer(&mut ledger, number));
    answer(&mut ledger, 0);
    assert_eq!(broken(&ledger), []);

    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::Counted);
    answer(&mut ledger, 1);
    answer(&mut ledger, 0);
    assert_eq!(broken(&ledger), [Invariant::KeyOrder]);
}

#[test]
fn an_answer_to_an_aborted_or_unknown_request_breaks_identity() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::None);
    ledger.abort_from(2);
    answer(&mut ledger, 2);
    answer(&mut ledger, 3);
    assert_eq!(broken(&ledger), [Invariant::Identity, Invariant::Identity]);
}

#[test]
fn a_result_with_the_value_of_another_request_breaks_identity() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::None);
    let mut reply = reply(0);
    reply["v"] = self::reply(1)["v"].clone();
    ledger.read("replies", &json!({"records": [reply]}));
    assert_eq!(broken(&ledger), [Invariant::Identity]);
}

#[tokio::test(start_paused = true)]
async fn only_a_partition_with_open_requests_counts_as_waiting() {
    let mut ledger = asked(Delivery::AtLeastOnce, Duplicates::None);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(ledger.longest_wait(), Some((0, Duration::from_secs(3))));
    (0..3).for_each(|number| answer(&mut ledger, number));
    assert_eq!(ledger.longest_wait(), None);
}

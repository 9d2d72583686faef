//! Backpressure from a pipeline that is slower than its topic.

use std::time::Duration;

use forebay_kafka::OnUnanswered;
use forebay_stream::Failure;
use futures::StreamExt as _;

use crate::support::{Broker, PATIENCE, next, positions, start, take, unique};

#[tokio::test]
async fn at_most_max_in_flight_records_are_in_flight() {
    const BOUND: usize = 8;
    const COUNT: usize = 500;
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, COUNT).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight = BOUND.try_into().unwrap();
    let (mut events, handle) = start(config).await;

    let mut taken = take(&mut events, BOUND).await;
    // Waits long enough for the source to pause, which drops the records that were fetched ahead.
    let early = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
    assert!(early.is_err(), "handed out more than the bound");
    assert_eq!(handle.stats().in_flight, BOUND);

    let mut seen = positions(&taken);
    while seen.len() < COUNT {
        assert!(handle.stats().in_flight <= BOUND);
        // Settles records out of order.
        taken.swap_remove(taken.len() / 2).receipt.done();
        while taken.len() <= BOUND / 2 && seen.len() < COUNT {
            let event = next(&mut events).await;
            seen.extend(positions(std::slice::from_ref(&event)));
            taken.push(event);
        }
    }
    assert!(seen.into_iter().eq(0..COUNT as u64), "every record once, in order");
    for event in taken {
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn an_abandoned_record_does_not_stop_the_others() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 20).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight = 2.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    drop(next(&mut events).await);
    for position in 1..20 {
        let event = next(&mut events).await;
        assert_eq!(event.meta.origin.position, position);
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().held, 1);
}

#[tokio::test]
async fn no_record_is_read_while_max_in_flight_bytes_are_in_flight() {
    const SIZE: usize = 10_000;
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill_with(&topic, 1, 40, |_, n| format!("{n:0SIZE$}")).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight_bytes = (8 * SIZE).try_into().unwrap();
    let (mut events, handle) = start(config).await;
    let mut taken = Vec::new();
    let mut seen = 0;
    while seen < 40 {
        let stats = handle.stats();
        assert!(stats.in_flight_bytes < 9 * SIZE, "{stats:?}");
        match tokio::time::timeout(Duration::from_millis(500), events.next()).await {
            Ok(event) => {
                seen += 1;
                taken.push(event.unwrap().unwrap());
            }
            // The source is full: some records have to be settled before more come.
            Err(_) if taken.len() < 5 => {}
            Err(_) => {
                assert!(taken.len() <= 8, "{} are in flight", taken.len());
                taken.drain(..5).for_each(|event| event.receipt.done());
            }
        }
    }
    for event in taken {
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn a_record_larger_than_max_in_flight_bytes_is_in_flight_alone() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill_with(&topic, 1, 3, |_, n| format!("{n:010000}")).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.max_in_flight_bytes = 100.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    for _ in 0..3 {
        let event = next(&mut events).await;
        assert_eq!(handle.stats().in_flight, 1);
        event.receipt.done();
    }
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_partition_that_reaches_max_uncommitted_does_not_stop_the_others() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 500).await;
    let mut config = broker.source(&topic, &group);
    config.max_uncommitted = 10.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    let mut first = None;
    let mut seen = [0, 0];
    while seen[1] < 500 {
        let event = next(&mut events).await;
        let partition = usize::try_from(event.meta.origin.partition.unwrap()).unwrap();
        seen[partition] += 1;
        match (partition, event.meta.origin.position) {
            (0, 0) => first = Some(event),
            _ => event.receipt.done(),
        }
    }
    assert_eq!(seen[0], 10, "max_uncommitted records and no more");
    first.unwrap().receipt.done();
    while seen[0] < 500 {
        next(&mut events).await.receipt.done();
        seen[0] += 1;
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
    assert!(broker.committed(&topic, &group, 2).values().all(|offset| *offset == 500));
}

#[tokio::test]
async fn a_failure_that_nothing_answers_halts_only_its_partition() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 300).await;
    let mut config = broker.source(&topic, &group);
    config.on_unanswered = OnUnanswered::HaltPartition;
    config.max_in_flight = 20.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    let mut failed = false;
    let mut others = 0;
    while others < 300 || !failed {
        let event = next(&mut events).await;
        match event.meta.origin.partition.unwrap() {
            0 if !failed && event.meta.origin.position == 3 => {
                failed = true;
                event.receipt.fail(Failure::new("no", "nobody answers this"));
            }
            0 => event.receipt.done(),
            _ => {
                others += 1;
                event.receipt.done();
            }
        }
    }
    // The halted partition is read no further; the other one is.
    broker.fill(&topic, 2, 50).await;
    for _ in 0..50 {
        let event = next(&mut events).await;
        assert_eq!(event.meta.origin.partition, Some(1));
        event.receipt.done();
    }
    assert_eq!(handle.close(PATIENCE).await.unwrap().held, 1);
    assert_eq!(broker.committed(&topic, &group, 2), [(0, 3), (1, 350)].into());
    // After a restart, reading begins with the failed record.
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    let event = next(&mut events).await;
    assert_eq!((event.meta.origin.partition, event.meta.origin.position), (Some(0), 3));
    drop(handle);
}

//! Stopping, closing, and giving up.

use std::time::Duration;

use forebay_kafka::{CloseReport, Error};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, PATIENCE, next, positions, start, start_until, take, unique};

#[tokio::test]
async fn closing_waits_for_what_was_handed_out_and_leaves_the_rest() {
    let broker = Broker::start();
    let (topic, group) = (broker.topic(1).await, unique("group"));
    broker.fill(&topic, 1, 20).await;
    let stop = CancellationToken::new();
    let (mut events, handle) = start_until(broker.source(&topic, &group), &stop).await;
    let taken = take(&mut events, 5).await;
    stop.cancel();
    assert!(events.next().await.is_none(), "nothing new once stopped");

    let closing = tokio::spawn(handle.close(PATIENCE));
    for event in taken {
        tokio::task::yield_now().await;
        assert!(!closing.is_finished());
        event.receipt.done();
    }
    assert_eq!(closing.await.unwrap().unwrap(), CloseReport { unresolved: 0, held: 0 });
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 5);

    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    assert_eq!(positions(&take(&mut events, 15).await), (5..20).collect::<Vec<_>>());
    drop(handle);
}

#[tokio::test]
async fn closing_gives_up_at_its_deadline_and_says_what_is_left() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 3).await;
    let (mut events, handle) = start(broker.source(&topic, &unique("group"))).await;
    let _taken = take(&mut events, 2).await;
    let before = Instant::now();
    let report = handle.close(Duration::from_millis(300)).await.unwrap();
    assert_eq!(report.unresolved, 2);
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert!(before.elapsed() < Duration::from_secs(5), "took {:?}", before.elapsed());
}

#[tokio::test]
async fn a_member_that_closes_lets_the_next_one_in_at_once() {
    let broker = Broker::start();
    let (topic, group) = (broker.topic(1).await, unique("group"));
    broker.fill(&topic, 1, 1).await;
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    let _taken = next(&mut events).await;
    handle.close(Duration::ZERO).await.unwrap();
    let before = Instant::now();
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    next(&mut events).await.receipt.done();
    // Not the session timeout, 45 s.
    assert!(before.elapsed() < Duration::from_secs(10), "took {:?}", before.elapsed());
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn closing_without_brokers_ends() {
    let mut broker = Broker::start();
    if broker.embedded.is_none() {
        eprintln!("skipped: needs a broker that it may end");
        return;
    }
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 1).await;
    let (mut events, handle) = start(broker.source(&topic, &unique("group"))).await;
    next(&mut events).await.receipt.done();
    broker.embedded = None;
    let before = Instant::now();
    let closed = handle.close(PATIENCE).await;
    assert!(
        matches!(closed, Err(Error::Commit { .. } | Error::CloseTimedOut { .. })),
        "{closed:?}"
    );
    assert!(before.elapsed() < Duration::from_secs(20), "took {:?}", before.elapsed());
}

//! Stopping and closing a source.

use std::time::Duration;

use forebay_kafka::{CloseReport, Error, Source};
use forebay_stream::Source as _;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, PATIENCE, next, positions, start, start_until, take, unique};

#[tokio::test]
async fn closing_waits_only_for_records_that_were_handed_out() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 20).await;
    let stop = CancellationToken::new();
    let (mut events, handle) = start_until(broker.source(&topic, &group), &stop).await;
    let taken = take(&mut events, 5).await;
    stop.cancel();
    assert!(events.next().await.is_none(), "a stopped source hands out no more records");

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
async fn closing_ends_at_its_deadline_if_records_are_not_settled() {
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
async fn a_new_member_gets_the_partitions_at_once_after_another_has_closed() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 1).await;
    let mut config = broker.source(&topic, &group);
    // The embedded broker notices that a member has left only when its session times out.
    if broker.embedded.is_none() {
        config.options.insert("session.timeout.ms".into(), "30000".into());
    }
    let (mut events, handle) = start(config).await;
    let _taken = next(&mut events).await;
    handle.close(Duration::ZERO).await.unwrap();
    let before = Instant::now();
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    next(&mut events).await.receipt.done();
    // The new member need not wait until the session of the closed one times out.
    assert!(before.elapsed() < Duration::from_secs(10), "took {:?}", before.elapsed());
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn closing_ends_if_no_broker_answers() {
    let mut broker = Broker::start();
    if broker.embedded.is_none() {
        eprintln!("skipped: the test stops its broker, which only works with the embedded one");
        return;
    }
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 1).await;
    let mut source = Source::connect(broker.source(&topic, &unique("group"))).await.unwrap();
    let mut committed = source.committed();
    let (events, handle) = source.start(&CancellationToken::new()).unwrap();
    next(&mut events.boxed()).await.receipt.done();
    broker.embedded = None;
    let before = Instant::now();
    let closed = handle.close(PATIENCE).await;
    assert!(
        matches!(closed, Err(Error::Commit { .. } | Error::CloseTimedOut { .. })),
        "{closed:?}"
    );
    assert!(before.elapsed() < Duration::from_secs(20), "took {:?}", before.elapsed());
    assert!(committed.next().now_or_never().unwrap().unwrap().is_none(), "its events have ended");
}

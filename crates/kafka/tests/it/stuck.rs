//! A source whose oldest record makes no progress.

use std::time::Duration;

use forebay_kafka::{Error, Stuck};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Broker, PATIENCE, next, start, take, unique};

const STUCK: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_record_without_an_answer_ends_the_source_and_is_named() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 5).await;
    let mut config = broker.source(&topic, &group);
    config.stuck_timeout = Some(STUCK);
    let started = Instant::now();
    let (mut events, handle) = start(config).await;
    let mut taken = take(&mut events, 5).await;
    taken.remove(0).receipt.done();
    let _stuck = taken.remove(0);
    taken.remove(0).receipt.done();

    // The stream is not polled, as in a pipeline that is stuck as a whole.
    let stuck = timeout(PATIENCE, handle.stuck()).await.expect("the record is reported");
    assert!(started.elapsed() >= STUCK);
    assert_eq!((stuck.origin.to_string(), stuck.timeout), (format!("{topic}[0]@1"), STUCK));
    let error = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Stuck(Stuck { .. })) && error.to_string() == stuck.to_string());
    handle.close(Duration::ZERO).await.unwrap();
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 1);
}

#[tokio::test]
async fn a_source_that_is_slow_or_idle_is_not_stuck() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    broker.fill(&topic, 2, 3).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.stuck_timeout = Some(3 * STUCK);
    let (mut events, handle) = start(config).await;
    // The first record of the second partition waits for longer than a stuck one may.
    for event in take(&mut events, 6).await {
        sleep(STUCK * 3 / 2).await;
        event.receipt.done();
    }
    sleep(4 * STUCK).await;
    broker.fill(&topic, 1, 1).await;
    next(&mut events).await.receipt.done();
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_record_that_failed_without_an_answer_is_stuck() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    broker.fill(&topic, 1, 2).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.stuck_timeout = Some(STUCK);
    let (mut events, handle) = start(config).await;
    drop(next(&mut events).await);
    let stuck = timeout(PATIENCE, handle.stuck()).await.expect("the record is reported");
    assert!(stuck.to_string().contains("it is in no step"), "{stuck}");
    assert_eq!(stuck.origin.position, 0);
}

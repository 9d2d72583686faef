//! Commits, and the records that are read again after a restart.

use std::time::Duration;

use forebay_kafka::CloseReport;
use forebay_stream::Failure;
use futures::StreamExt as _;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::Instant;

use crate::support::{Broker, PATIENCE, Record, positions, start, take, unique};

#[tokio::test]
async fn a_restart_reads_again_from_the_smallest_unsettled_offset() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 10).await;

    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    let mut taken = take(&mut events, 10).await;
    let kept = taken.remove(4);
    // Settles the last record first.
    for event in taken.into_iter().rev() {
        event.receipt.done();
    }
    let report = handle.close(Duration::ZERO).await.unwrap();
    assert_eq!(report, CloseReport { unresolved: 1, held: 0 });
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 4);
    // An outcome after closing is ignored, because the next run may have committed more.
    kept.receipt.done();
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 4);

    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    let again = take(&mut events, 6).await;
    assert_eq!(positions(&again), [4, 5, 6, 7, 8, 9]);
    for event in again {
        event.receipt.done();
    }
    handle.close(PATIENCE).await.unwrap();
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 10);
}

#[tokio::test]
async fn a_running_source_commits_settled_records() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 3).await;
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(20);
    let (mut events, handle) = start(config).await;
    for event in take(&mut events, 3).await {
        event.receipt.done();
    }
    let committed = async {
        while broker.committed(&topic, &group, 1).get(&0) != Some(&3) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, committed).await.expect("a commit while the source runs");
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn commits_stop_at_an_abandoned_record() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 5).await;
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    for (n, event) in take(&mut events, 5).await.into_iter().enumerate() {
        if n == 2 { drop(event) } else { event.receipt.done() }
    }
    let stats = handle.stats();
    assert_eq!((stats.in_flight, stats.held), (1, 1));
    assert_eq!(stats.oldest.unwrap().origin.to_string(), format!("{topic}[0]@2"));
    let report = handle.close(PATIENCE).await.unwrap();
    assert_eq!(report, CloseReport { unresolved: 0, held: 1 });
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 2);
}

#[tokio::test]
async fn a_failure_that_nothing_answers_ends_the_source() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let group = unique("group");
    broker.fill(&topic, 1, 5).await;
    let mut config = broker.source(&topic, &group);
    config.max_in_flight = 2.try_into().unwrap();
    let (mut events, handle) = start(config).await;
    let mut taken = take(&mut events, 2).await;
    taken.pop().unwrap().receipt.fail(Failure::new("invalid_json", "line 1"));

    let error = events.next().await.unwrap().unwrap_err();
    let report = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(
        report,
        format!("nothing answered the failure of {topic}[0]@1: invalid_json: line 1")
    );
    assert!(events.next().await.is_none());
    taken.pop().unwrap().receipt.done();
    assert_eq!(handle.close(PATIENCE).await.unwrap(), CloseReport { unresolved: 0, held: 1 });
    assert_eq!(broker.committed(&topic, &group, 1)[&0], 1);
}

#[tokio::test]
async fn a_refused_commit_is_repeated() {
    // A cluster that refuses requests on demand.
    let cluster = MockCluster::new(1).unwrap();
    let broker = Broker { servers: cluster.bootstrap_servers(), embedded: None };
    let topic = unique("topic");
    let group = unique("group");
    cluster.create_topic(&topic, 1, 1).unwrap();
    broker.fill(&topic, 1, 5).await;
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(20);
    let (mut events, handle) = start(config).await;
    let taken = take(&mut events, 5).await;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 3]);
    for event in taken {
        event.receipt.done();
    }
    // No other record is settled, so there is no new position that would cause a commit.
    let waiting = Instant::now();
    while broker.committed(&topic, &group, 1).get(&0) != Some(&5) {
        assert!(waiting.elapsed() < PATIENCE, "{:?}", broker.committed(&topic, &group, 1));
    }
    handle.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_last_commit_that_is_refused_during_a_rebalance_is_repeated() {
    for refusal in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        // The same, with the protocol of KIP-848.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    ] {
        let cluster = MockCluster::new(1).unwrap();
        let broker = Broker { servers: cluster.bootstrap_servers(), embedded: None };
        let topic = unique("topic");
        let group = unique("group");
        cluster.create_topic(&topic, 1, 1).unwrap();
        broker.fill(&topic, 1, 5).await;
        let mut config = broker.source(&topic, &group);
        config.commit_interval = Duration::from_hours(1);
        let (mut events, handle) = start(config).await;
        for event in take(&mut events, 5).await {
            event.receipt.done();
        }
        cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 3]);
        handle.close(PATIENCE).await.unwrap();
        assert_eq!(broker.committed(&topic, &group, 1)[&0], 5, "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_left_by_compaction_do_not_stop_commits() {
    let broker = Broker::start();
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "100"),
    ];
    let Some(topic) = broker.topic_with(&settings).await else { return };
    // Writes three keys until the brokers have removed some of the records.
    let mut written = 0;
    let waiting = Instant::now();
    while broker.read_committed(&topic, 0).len() == written {
        assert!(waiting.elapsed() < 3 * PATIENCE, "no compaction of {written} records");
        let number = |n: usize| (written + n).to_string();
        let records: Vec<_> = (0..30)
            .map(|n| Record {
                key: Some((n % 3).to_string().into()),
                value: Some(number(n).into()),
                ..Record::default()
            })
            .collect();
        broker.write(&topic, &records).await;
        written += records.len();
    }
    let group = unique("group");
    let (mut events, handle) = start(broker.source(&topic, &group)).await;
    let last = (written - 1).to_string();
    let mut read = Vec::new();
    loop {
        let event = take(&mut events, 1).await.pop().unwrap();
        read.extend(positions(std::slice::from_ref(&event)));
        let value = event.value.clone();
        event.receipt.done();
        if value.as_deref() == Some(last.as_bytes()) {
            break;
        }
    }
    assert!(read.len() < written && read.is_sorted(), "{read:?}");
    handle.close(PATIENCE).await.unwrap();
    assert_eq!(broker.committed(&topic, &group, 1)[&0], i64::try_from(written).unwrap());
}

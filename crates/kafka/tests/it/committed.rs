//! Committed offsets as events.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_kafka::{CommittedOffset, CommittedOffsets, Source, SourceConfig, SourceHandle};
use forebay_stream::{Event, Source as _};
use futures::{FutureExt as _, StreamExt as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::rebalance::real_broker;
use crate::support::{Broker, PATIENCE, record, take, unique};
use crate::transactions::{Member, broker, exactly_once};

/// Returns all offsets, once there are no more, in their order by partition.
async fn all(mut committed: CommittedOffsets) -> BTreeMap<i32, Vec<i64>> {
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    while let Some(event) = timeout(PATIENCE, committed.next()).await.expect("the end").unwrap() {
        let CommittedOffset { partition, offset, .. } = event.value;
        offsets.entry(partition).or_default().push(offset);
    }
    offsets
}

fn gather(committed: CommittedOffsets) -> JoinHandle<BTreeMap<i32, Vec<i64>>> {
    tokio::spawn(all(committed))
}

/// Asserts that the offsets of each partition increase, and that the last ones are those of the
/// group.
fn assert_agree(offsets: &BTreeMap<i32, Vec<i64>>, committed: &BTreeMap<i32, i64>) {
    for of_one in offsets.values() {
        assert!(of_one.is_sorted_by(|one, next| one < next), "{of_one:?}");
    }
    let last = offsets.iter().filter_map(|(of, offsets)| Some((*of, *offsets.last()?)));
    assert_eq!(&last.collect::<BTreeMap<_, _>>(), committed);
}

async fn next(committed: &mut CommittedOffsets) -> Event<CommittedOffset> {
    timeout(PATIENCE, committed.next()).await.expect("an offset in time").unwrap().unwrap()
}

#[tokio::test]
async fn the_events_tell_what_the_group_has_committed() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 40).await;
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(20);
    let mut source = Source::connect(config).await.unwrap();
    let mut committed = source.committed();
    let (events, handle) = source.start(&CancellationToken::new()).unwrap();
    let mut taken = take(&mut events.boxed(), 80).await.into_iter();

    let first = taken.next().unwrap();
    let partition = first.meta.origin.partition.unwrap();
    first.receipt.done();
    let event = next(&mut committed).await;
    let (group, topic) = (group.as_str().into(), topic.as_str().into());
    assert_eq!(event.value, CommittedOffset { group, topic, partition, offset: 1 });
    let CommittedOffset { group, topic, .. } = &event.value;
    assert_eq!(event.meta.key.as_deref(), Some(format!("{topic}-{partition}").as_bytes()));
    assert_eq!(event.meta.origin.to_string(), format!("committed {topic}[{partition}]@1"));
    assert_eq!(broker.committed(topic, group, 2)[&partition], 1, "the event follows the commit");

    let gathered = gather(committed);
    for event in taken {
        tokio::time::sleep(Duration::from_millis(4)).await;
        event.receipt.done();
    }
    handle.close(PATIENCE).await.unwrap();
    let offsets = gathered.await.unwrap();
    assert!(offsets.values().all(|offsets| offsets.len() > 2), "not only at the end: {offsets:?}");
    assert_agree(&offsets, &broker.committed(topic, group, 2));
}

#[tokio::test]
async fn commits_do_not_wait_for_events_that_nobody_takes() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 20).await;
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(20);
    let mut source = Source::connect(config).await.unwrap();
    let committed = source.committed();
    let (events, handle) = source.start(&CancellationToken::new()).unwrap();
    for event in take(&mut events.boxed(), 40).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
        event.receipt.done();
    }
    handle.close(PATIENCE).await.unwrap();
    assert_eq!(all(committed).await, [(0, vec![20]), (1, vec![20])].into());
}

#[tokio::test]
async fn a_commit_that_is_refused_is_no_event_until_it_is_repeated() {
    let cluster = MockCluster::new(1).unwrap();
    let broker = Broker { servers: cluster.bootstrap_servers(), embedded: None };
    let topic = unique("topic");
    let group = unique("group");
    cluster.create_topic(&topic, 1, 1).unwrap();
    broker.fill(&topic, 1, 5).await;
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(20);
    let mut source = Source::connect(config).await.unwrap();
    let mut committed = source.committed();
    let (events, handle) = source.start(&CancellationToken::new()).unwrap();
    let taken = take(&mut events.boxed(), 5).await;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 20]);
    for event in taken {
        event.receipt.done();
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(committed.next().now_or_never().is_none(), "the commits are refused");
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    assert_eq!(next(&mut committed).await.value.offset, 5);
    handle.close(PATIENCE).await.unwrap();
    assert!(all(committed).await.is_empty(), "the last commit repeats the position");
}

#[tokio::test]
async fn the_events_of_a_source_that_is_never_started_end() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let config = broker.source(&topic, &unique("group"));
    let mut source = Source::connect(config).await.unwrap();
    let mut committed = source.committed();
    assert!(committed.next().now_or_never().is_none(), "it has not ended");
    drop(source);
    assert!(all(committed).await.is_empty());
}

/// Starts a member that answers every record at once. Returns its events and its handle.
async fn member(config: SourceConfig) -> (JoinHandle<BTreeMap<i32, Vec<i64>>>, SourceHandle) {
    let mut source = Source::connect(config).await.unwrap();
    let committed = gather(source.committed());
    let (events, handle) = source.start(&CancellationToken::new()).unwrap();
    tokio::spawn(events.for_each(async |event| event.unwrap().receipt.done()));
    (committed, handle)
}

#[tokio::test]
async fn offsets_increase_across_a_handover() {
    let Some(broker) = real_broker() else { return };
    let topic = broker.topic(4).await;
    let group = unique("group");
    let mut config = broker.source(&topic, &group);
    config.commit_interval = Duration::from_millis(50);
    broker.fill(&topic, 4, 10).await;
    let (of_a, a) = member(config.clone()).await;
    timeout(PATIENCE, a.ready()).await.unwrap();
    let (of_b, b) = member(config).await;
    timeout(PATIENCE, b.ready()).await.unwrap();
    broker.fill(&topic, 4, 10).await;
    let waiting = Instant::now();
    while broker.committed(&topic, &group, 4) != (0..4).map(|of| (of, 20)).collect() {
        assert!(waiting.elapsed() < PATIENCE, "{:?}", broker.committed(&topic, &group, 4));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    b.close(PATIENCE).await.unwrap();
    broker.fill(&topic, 4, 10).await;
    while broker.committed(&topic, &group, 4) != (0..4).map(|of| (of, 30)).collect() {
        assert!(waiting.elapsed() < 2 * PATIENCE, "{:?}", broker.committed(&topic, &group, 4));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a.close(PATIENCE).await.unwrap();
    let (of_a, of_b) = (of_a.await.unwrap(), of_b.await.unwrap());
    assert_agree(&of_a, &broker.committed(&topic, &group, 4));
    assert!(!of_b.is_empty(), "the second member got no partition");
    for (partition, of_b) in of_b {
        assert!(of_b.is_sorted_by(|one, next| one < next) && of_b.last() == Some(&20), "{of_b:?}");
        let between = of_a[&partition].iter().filter(|offset| of_b.contains(offset));
        assert!(between.clone().all(|offset| *offset == 10), "{of_a:?}, {of_b:?}");
    }
}

#[tokio::test]
async fn the_commit_of_a_handover_is_an_event() {
    let Some(broker) = real_broker() else { return };
    let topic = broker.topic(4).await;
    let mut config = broker.source(&topic, &unique("group"));
    config.commit_interval = Duration::from_hours(1);
    broker.fill(&topic, 4, 10).await;
    let mut source = Source::connect(config.clone()).await.unwrap();
    let mut committed = source.committed();
    let (events, a) = source.start(&CancellationToken::new()).unwrap();
    let mut events = events.boxed();
    for event in take(&mut events, 40).await {
        event.receipt.done();
    }
    let (_, b) = member(config).await;
    let mut moved = Vec::new();
    for _ in 0..2 {
        let CommittedOffset { partition, offset, .. } = next(&mut committed).await.value;
        assert_eq!(offset, 10);
        moved.push(partition);
    }
    a.close(PATIENCE).await.unwrap();
    b.close(PATIENCE).await.unwrap();
    let rest = all(committed).await;
    assert!(rest.keys().all(|partition| !moved.contains(partition)), "{moved:?}, {rest:?}");
    assert!(rest.len() == 2 && rest.values().all(|offsets| *offsets == [10]), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_transactions_commit_are_events() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(4).await;
    let replies = broker.topic(4).await;
    let group = unique("group");
    let config = exactly_once(&broker, &requests, &group, &unique("id"));
    let mut member = Member::start(config, &replies).await;
    broker.fill_with(&requests, 4, 5, |partition, n| format!("{partition}:{n}")).await;
    let first = next(&mut member.committed).await;
    let CommittedOffset { partition, offset, .. } = first.value;
    assert!(broker.committed(&requests, &group, 4)[&partition] >= offset);
    let count = usize::try_from(offset).unwrap();
    let written = broker.read_committed(&replies, count);
    let of_partition = |value: &[u8]| value.starts_with(format!("{partition}:").as_bytes());
    let written = written.iter().filter(|reply| of_partition(reply.value.as_deref().unwrap()));
    assert!(written.count() >= count, "the replies are visible before the event");
    for _ in 0..20 {
        broker.fill_with(&requests, 4, 10, |partition, n| format!("slow:{partition}:{n}")).await;
    }
    broker.read_committed(&replies, 820);
    let mut offsets = all(member.close().await).await;
    offsets.entry(partition).or_default().insert(0, offset);
    assert_agree(&offsets, &broker.committed(&requests, &group, 4));
    assert_eq!(offsets.into_values().filter_map(|of| of.last().copied()).sum::<i64>(), 820);
}

/// If the outcome of a transaction is unknown, the source asks for the committed offsets. Here, they
/// have moved because another producer has committed one for the group.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_found_committed_after_a_failed_transaction_is_an_event() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(1).await;
    let replies = broker.topic(1).await;
    let group = unique("group");
    let config = exactly_once(&broker, &requests, &group, &unique("id"));
    // The client's limit is above that of the brokers, a megabyte.
    let options = [("message.max.bytes", "2000000")];
    let mut member = Member::with(config, &replies, &options).await;
    let values = ["held:0", "held:1", "held:2"].map(|value| record(0, value));
    broker.write(&requests, &values).await;
    let reading = Instant::now();
    while member.handle.stats().in_flight < 3 {
        assert!(reading.elapsed() < PATIENCE, "the requests are not read");
        tokio::task::yield_now().await;
    }
    commit_in_a_transaction(&broker, &requests, &group, 2);
    assert!(member.committed.next().now_or_never().is_none(), "it is not known yet");
    // The brokers refuse this reply, so the transaction fails.
    broker.write(&requests, &[record(0, "grow")]).await;
    member.gate.add_permits(1);
    assert_eq!(next(&mut member.committed).await.value.offset, 2);
    while next(&mut member.committed).await.value.offset < 4 {}
    assert_eq!(broker.committed(&requests, &group, 1)[&0], 4);
    assert!(all(member.close().await).await.is_empty());
}

/// Commits an offset of partition 0 for the group, with a producer of its own.
fn commit_in_a_transaction(broker: &Broker, topic: &str, group: &str, offset: i64) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &broker.servers).set("group.id", group);
    let outsider: BaseConsumer = client.create().unwrap();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &broker.servers).set("transactional.id", unique("id"));
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let metadata = outsider.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
}

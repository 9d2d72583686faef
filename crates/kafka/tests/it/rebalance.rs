//! Members that join and leave the group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{Source, SourceConfig, SourceHandle};
use forebay_stream::{Event, Source as _};
use futures::StreamExt as _;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Events, PATIENCE, next, start, take, unique};

/// A record, and the member that worked on it.
#[derive(Debug)]
struct Worked {
    member: &'static str,
    partition: i32,
    offset: u64,
}

/// The time that a member works on each record.
#[derive(Clone)]
enum Work {
    Takes(Duration),
    LastsUntil(CancellationToken),
}

/// Starts a member that logs each record when it gets it, and settles it when its work is done.
async fn member(
    name: &'static str,
    config: SourceConfig,
    work: Work,
    log: &mpsc::UnboundedSender<Worked>,
    tasks: &mut JoinSet<()>,
) -> SourceHandle {
    let (events, handle) = start(config).await;
    tasks.spawn(run(name, events, work, log.clone()));
    handle
}

async fn run(
    member: &'static str,
    mut events: Events,
    work: Work,
    log: mpsc::UnboundedSender<Worked>,
) {
    let mut working = JoinSet::new();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let origin = &event.meta.origin;
        let worked =
            Worked { member, partition: origin.partition.unwrap(), offset: origin.position };
        log.send(worked).ok();
        let work = work.clone();
        working.spawn(async move {
            match work {
                Work::Takes(time) => tokio::time::sleep(time).await,
                Work::LastsUntil(end) => end.cancelled().await,
            }
            event.receipt.done();
        });
    }
    working.join_all().await;
}

/// Collects the members that worked on each record, until `complete` returns `true`.
async fn collect(
    log: &mut mpsc::UnboundedReceiver<Worked>,
    seen: &mut BTreeMap<(i32, u64), Vec<&'static str>>,
    complete: impl Fn(&BTreeMap<(i32, u64), Vec<&'static str>>) -> bool,
) {
    while !complete(seen) {
        let worked = tokio::time::timeout(PATIENCE, log.recv()).await.expect("progress").unwrap();
        seen.entry((worked.partition, worked.offset)).or_default().push(worked.member);
    }
}

/// Asserts that no record was worked on twice. With the embedded broker, only prints how many were:
/// unlike Kafka, it refuses every commit while its group rebalances, so on a busy machine a member
/// may find no committed offset although the drain was right.
fn assert_no_repeats(broker: &Broker, seen: &BTreeMap<(i32, u64), Vec<&'static str>>) {
    let twice: Vec<_> = seen.iter().filter(|(_, members)| members.len() > 1).collect();
    if broker.embedded.is_some() && !twice.is_empty() {
        eprintln!(
            "skipped: the embedded broker refused a commit, {} repeats are ignored",
            twice.len()
        );
        return;
    }
    assert!(twice.is_empty(), "worked on twice: {twice:?}");
}

#[tokio::test]
async fn a_member_that_joins_begins_where_the_other_member_stopped() {
    let broker = Broker::start();
    let topic = broker.topic(4).await;
    let config = broker.source(&topic, &unique("group"));
    joins_while_all_records_are_in_flight(&broker, config, Duration::from_millis(1500)).await;
}

#[tokio::test]
async fn a_commit_that_is_refused_at_a_handover_is_repeated() {
    for refusal in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        // The same, with the protocol of KIP-848.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    ] {
        let cluster = MockCluster::new(1).unwrap();
        let broker = Broker { servers: cluster.bootstrap_servers(), embedded: None };
        let topic = unique("topic");
        cluster.create_topic(&topic, 2, 1).unwrap();
        broker.fill(&topic, 2, 10).await;
        let mut config = broker.source(&topic, &unique("group"));
        config.commit_interval = Duration::from_hours(1);
        let mut source = Source::connect(config.clone()).await.unwrap();
        let mut committed = source.committed();
        let (events, a) = source.start(&CancellationToken::new()).unwrap();
        for event in take(&mut events.boxed(), 20).await {
            event.receipt.done();
        }
        cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 3]);
        let (_events, b) = start(config).await;
        let committed = tokio::time::timeout(PATIENCE, committed.next()).await;
        let committed = committed.expect("the commit is repeated").unwrap().unwrap();
        assert_eq!(committed.value.offset, 10, "{refusal:?}");
        b.close(PATIENCE).await.ok();
        a.close(PATIENCE).await.ok();
    }
}

/// With this protocol (KIP-848), the brokers assign the partitions and set the session timeout.
#[tokio::test]
async fn a_member_that_joins_begins_where_the_other_stopped_with_the_consumer_protocol() {
    let Some(broker) = real_broker() else { return };
    let topic = broker.topic(4).await;
    let mut config = SourceConfig::new(&broker.servers, &topic, unique("group"));
    config.options.insert("group.protocol".into(), "consumer".into());
    joins_while_all_records_are_in_flight(&broker, config, Duration::from_millis(1500)).await;
}

/// Polls and heartbeats go on while partitions are drained, so the group keeps the member.
#[tokio::test]
async fn a_drain_may_take_longer_than_the_session_timeout() {
    let Some(broker) = real_broker() else { return };
    let topic = broker.topic(4).await;
    let mut config = SourceConfig::new(&broker.servers, &topic, unique("group"));
    config.options.insert("session.timeout.ms".into(), "2000".into());
    joins_while_all_records_are_in_flight(&broker, config, Duration::from_secs(7)).await;
}

/// Returns the broker in `KAFKA_BROKERS`. Prints that the test is skipped if it is not set.
pub(crate) fn real_broker() -> Option<Broker> {
    let broker = Broker::start();
    if broker.embedded.is_some() {
        eprintln!(
            "skipped: the embedded broker's groups are too simple for this, set KAFKA_BROKERS"
        );
        return None;
    }
    Some(broker)
}

/// Lets a second member join while the first one works on 40 records, and asserts that no record is
/// worked on twice.
async fn joins_while_all_records_are_in_flight(
    broker: &Broker,
    config: SourceConfig,
    work: Duration,
) {
    let topic = config.topic.clone();
    let group = config.group.clone();
    broker.fill(&topic, 4, 10).await;
    let (log, mut worked) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut seen = BTreeMap::new();
    let work = Work::Takes(work);

    let a = member("a", config.clone(), work.clone(), &log, &mut tasks).await;
    collect(&mut worked, &mut seen, |seen| seen.len() == 40).await;
    // All 40 records are in flight when the second member joins.
    let b = member("b", config, work, &log, &mut tasks).await;
    let mut offset = 10;
    let joining = Instant::now();
    while !seen.values().flatten().any(|member| *member == "b") {
        assert!(joining.elapsed() < 2 * PATIENCE, "one member got nothing");
        broker.fill(&topic, 4, 1).await;
        offset += 1;
        collect(&mut worked, &mut seen, |seen| seen.len() == 4 * offset).await;
    }

    assert_eq!(a.close(PATIENCE).await.unwrap().unresolved, 0);
    assert_eq!(b.close(PATIENCE).await.unwrap().unresolved, 0);
    tasks.join_all().await;
    worked.close();
    while let Some(more) = worked.recv().await {
        seen.entry((more.partition, more.offset)).or_default().push(more.member);
    }
    assert_no_repeats(broker, &seen);
    for committed in broker.committed(&topic, &group, 4).values() {
        assert_eq!(*committed, i64::try_from(offset).unwrap());
    }
}

#[tokio::test]
async fn records_are_repeated_if_a_drain_takes_too_long() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 10).await;
    let (log, mut worked) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut seen = BTreeMap::new();
    let mut config = broker.source(&topic, &group);
    config.drain_timeout = Some(Duration::from_millis(200));

    let end = CancellationToken::new();
    let work = Work::LastsUntil(end.clone());
    let a = member("a", config.clone(), work, &log, &mut tasks).await;
    collect(&mut worked, &mut seen, |seen| seen.len() == 20).await;
    let b = member("b", config, Work::Takes(Duration::ZERO), &log, &mut tasks).await;
    // One partition moves, and all of its records are worked on again.
    let by_b = |seen: &BTreeMap<(i32, u64), Vec<&'static str>>| {
        seen.values().flatten().filter(|member| **member == "b").count() == 10
    };
    collect(&mut worked, &mut seen, by_b).await;
    assert!(seen.values().all(|members| members[0] == "a"));

    // The first member's receipts for that partition are settled after the second has committed;
    // they change nothing.
    assert_eq!(b.close(PATIENCE).await.unwrap().unresolved, 0);
    end.cancel();
    assert_eq!(a.close(PATIENCE).await.unwrap().unresolved, 0);
    tasks.join_all().await;
    let committed = broker.committed(&topic, &group, 2);
    assert_eq!(committed.values().copied().collect::<Vec<_>>(), [10, 10]);
}

#[tokio::test]
async fn records_finished_by_a_member_that_leaves_are_not_repeated() {
    let broker = Broker::start();
    let topic = broker.topic(4).await;
    let group = unique("group");
    let (log, mut worked) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut seen = BTreeMap::new();
    let a =
        member("a", broker.source(&topic, &group), Work::Takes(Duration::ZERO), &log, &mut tasks)
            .await;
    let b =
        member("b", broker.source(&topic, &group), Work::Takes(Duration::ZERO), &log, &mut tasks)
            .await;
    let mut offset = 0;
    let joining = Instant::now();
    while !["a", "b"].iter().all(|name| seen.values().flatten().any(|member| member == name)) {
        assert!(joining.elapsed() < 2 * PATIENCE, "one member got nothing");
        broker.fill(&topic, 4, 1).await;
        offset += 1;
        collect(&mut worked, &mut seen, |seen| seen.len() == 4 * offset).await;
    }
    assert_eq!(a.close(PATIENCE).await.unwrap().unresolved, 0);
    broker.fill(&topic, 4, 5).await;
    collect(&mut worked, &mut seen, |seen| seen.len() == 4 * (offset + 5)).await;
    b.close(PATIENCE).await.unwrap();
    assert_no_repeats(&broker, &seen);
}

#[tokio::test]
async fn a_partition_that_was_revoked_while_paused_is_read_when_it_is_assigned_again() {
    let broker = Broker::start();
    let topic = broker.topic(2).await;
    let group = unique("group");
    broker.fill(&topic, 2, 3).await;
    let mut config = broker.source(&topic, &group);
    config.max_in_flight = 2.try_into().unwrap();
    config.drain_timeout = Some(Duration::from_millis(200));
    let (mut events, a) = start(config.clone()).await;
    let held = take(&mut events, 2).await;
    let early = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
    assert!(early.is_err(), "the source is full and paused by now");

    // The second member takes one of the paused partitions, and leaves again.
    let (log, mut worked) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut seen = BTreeMap::new();
    let b = member("b", config, Work::Takes(Duration::ZERO), &log, &mut tasks).await;
    collect(&mut worked, &mut seen, |seen| seen.len() == 3).await;
    b.close(PATIENCE).await.unwrap();
    for event in held {
        event.receipt.done();
    }

    broker.fill(&topic, 2, 1).await;
    let mut last = BTreeSet::new();
    while last.len() < 2 {
        let event = next(&mut events).await;
        if event.meta.origin.position == 3 {
            last.insert(event.meta.origin.partition);
        }
        event.receipt.done();
    }
    a.close(PATIENCE).await.unwrap();
}

/// A member that has a record of each of four partitions in flight, and a second one that waits for
/// its share of the partitions.
struct HandingOver {
    a: SourceHandle,
    held: Vec<Event<Option<Bytes>>>,
    // Further events of the first member.
    a_events: Events,
    b: SourceHandle,
    b_events: Events,
}

/// Starts both members. Prints that the test is skipped and returns `None` if groups change too
/// slowly to look into a handover.
async fn handing_over(broker: &Broker, topic: &str, group: &str) -> Option<HandingOver> {
    if broker.embedded.is_some() {
        eprintln!("skipped: the embedded broker's groups change too slowly for this");
        return None;
    }
    broker.fill(topic, 4, 1).await;
    let mut config = broker.source(topic, group);
    // Leaves time to look into the handover on a busy machine.
    config.options.insert("session.timeout.ms".into(), "30000".into());
    config.drain_timeout = Some(Duration::from_secs(14));
    let (mut a_events, a) = start(config.clone()).await;
    let held = take(&mut a_events, 4).await;
    let (b_events, b) = start(config).await;
    let joining = Instant::now();
    while a.stats().handing_over == 0 {
        assert!(joining.elapsed() < PATIENCE, "nothing is handed over");
        tokio::task::yield_now().await;
    }
    Some(HandingOver { a, held, a_events, b, b_events })
}

#[tokio::test]
async fn partitions_move_once_their_records_in_flight_are_settled() {
    let broker = Broker::start();
    let topic = broker.topic(4).await;
    let group = unique("group");
    let Some(handing_over) = handing_over(&broker, &topic, &group).await else { return };
    let HandingOver { a, held, mut a_events, b, mut b_events } = handing_over;
    broker.fill(&topic, 4, 1).await;
    assert_eq!(a.stats().handing_over, 2, "the handover waits for the records in flight");
    let waiting = tokio::time::timeout(Duration::from_millis(500), b_events.next()).await;
    assert!(waiting.is_err(), "the second member got a partition that the first one still has");
    for event in held {
        event.receipt.done();
    }
    // Each begins where the first member ended, with the second record of each partition.
    for events in [&mut a_events, &mut b_events] {
        for _ in 0..2 {
            let event = next(events).await;
            assert_eq!(event.meta.origin.position, 1);
            event.receipt.done();
        }
    }
    assert_eq!(a.stats().handing_over, 0);
    a.close(PATIENCE).await.unwrap();
    b.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_member_that_closes_while_it_hands_over_does_not_hang() {
    let broker = Broker::start();
    let topic = broker.topic(4).await;
    let group = unique("group");
    let Some(handing_over) = handing_over(&broker, &topic, &group).await else { return };
    let HandingOver { a, held, b, mut b_events, .. } = handing_over;
    let before = Instant::now();
    let report = a.close(Duration::from_millis(100)).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(8), "took {:?}", before.elapsed());
    assert_eq!(report.unresolved, held.len());
    // The other member gets all partitions, from the beginning.
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        let event = next(&mut b_events).await;
        seen.insert(event.meta.origin.partition);
        event.receipt.done();
    }
    b.close(PATIENCE).await.unwrap();
}

/// Waits until the source is ready.
async fn ready(handle: &SourceHandle) {
    tokio::time::timeout(PATIENCE, handle.ready()).await.expect("the source is ready in time");
}

#[tokio::test]
async fn a_member_is_ready_when_the_group_has_answered_even_without_a_partition() {
    let broker = Broker::start();
    let topic = broker.topic(1).await;
    let mut config = broker.source(&topic, &unique("group"));
    let (_events, a) = start(config.clone()).await;
    ready(&a).await;
    // The topic has one partition, so one of both gets none.
    let (_events, b) = start(config.clone()).await;
    ready(&b).await;
    b.close(PATIENCE).await.unwrap();
    a.close(PATIENCE).await.unwrap();

    if real_broker().is_none() {
        return;
    }
    config.group = unique("group");
    config.options = [("group.protocol".to_owned(), "consumer".to_owned())].into();
    let (_events, a) = start(config.clone()).await;
    ready(&a).await;
    let (_events, b) = start(config).await;
    ready(&b).await;
    b.close(PATIENCE).await.unwrap();
    a.close(PATIENCE).await.unwrap();
}

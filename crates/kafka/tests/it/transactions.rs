//! Exactly-once delivery with a real Kafka: the embedded broker has no transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{
    CommittedOffsets, Delivery, Error, Reply, ReplyKind, SinkConfig, Source, SourceConfig,
    SourceHandle, TransactionSettings,
};
use forebay_stream::{Event, Failure, Flow, PipelineError, Sink as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, PATIENCE, unique};

/// Returns the broker in `KAFKA_BROKERS`, if it is set.
pub(crate) fn broker() -> Option<Broker> {
    let broker = Broker::start();
    if broker.embedded.is_some() {
        eprintln!("skipped: transactions need a real Kafka, set KAFKA_BROKERS");
        return None;
    }
    Some(broker)
}

pub(crate) fn exactly_once(broker: &Broker, topic: &str, group: &str, id: &str) -> SourceConfig {
    let mut config = broker.source(topic, group);
    config.delivery = Delivery::ExactlyOnce(TransactionSettings {
        id: Some(id.to_owned()),
        commit_interval: Duration::from_millis(20),
        timeout: Some(Duration::from_secs(4)),
    });
    config
}

/// Answers a request with its own value, except that values beginning with `bad` fail and `grow`
/// gets a reply that is larger than the brokers accept.
fn answer(value: Option<Bytes>) -> Result<Bytes, Failure> {
    let value = value.expect("a value");
    match &value[..] {
        value if value.starts_with(b"bad") => Err(Failure::new("bad", "as it says")),
        b"grow" => Ok(vec![b'x'; 1_500_000].into()),
        _ => Ok(value),
    }
}

/// Returns the milliseconds in a value such as `wait:20:anything`.
fn waiting_time(value: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(value).ok()?.strip_prefix("wait:")?;
    rest.split(':').next()?.parse().ok()
}

/// A member of the group that answers each request as [`answer`] does, in any order. Values
/// beginning with `slow` take 50 ms, and `wait:N` takes N ms.
pub(crate) struct Member {
    pub(crate) handle: SourceHandle,
    /// While this semaphore has no permit, requests whose values begin with `held` are not
    /// answered.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) committed: CommittedOffsets,
    /// Number of requests that were handled, repetitions included.
    pub(crate) handled: Arc<AtomicUsize>,
    running: JoinHandle<Result<(), PipelineError>>,
    stop: CancellationToken,
}

impl Member {
    pub(crate) async fn start(config: SourceConfig, replies: &str) -> Self {
        Self::with(config, replies, &[]).await
    }

    pub(crate) async fn with(
        config: SourceConfig,
        replies: &str,
        options: &[(&str, &str)],
    ) -> Self {
        let mut sink = SinkConfig::new(&config.brokers, replies);
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        sink.options.extend(options);
        let mut source = Source::connect(config).await.unwrap();
        let sink = source.sink(sink).await.unwrap();
        let committed = source.committed();
        let stop = CancellationToken::new();
        let (events, handle) = source.start(&stop).unwrap();
        let capacity = 4096.try_into().unwrap();
        let flow = Flow::from_try_events("requests", events);
        let (requests, failures) = flow.catch(capacity, forebay_stream::Release::AtOnce);
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let handled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handled);
        let slowly = move |value: Option<Bytes>| {
            count.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&opened);
            async move {
                if value.as_ref().is_some_and(|value| value.starts_with(b"slow")) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                if let Some(millis) = value.as_deref().and_then(waiting_time) {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                if value.as_ref().is_some_and(|value| value.starts_with(b"held")) {
                    drop(gate.acquire().await);
                }
                answer(value)
            }
        };
        let answers = requests.map_async_unordered(slowly, 64.try_into().unwrap());
        let answers = answers.map(|value| Reply { value: Some(value), ..Reply::default() });
        let errors = failures.map(|failed| Reply {
            value: Some(format!("error: {}", failed.failure.code()).into()),
            kind: ReplyKind::Error,
            ..Reply::default()
        });
        let replies = answers.rejoin(errors);
        let pipeline = replies.sink("replies", sink);
        let running = tokio::spawn(pipeline.run());
        Self { handle, gate, committed, handled, running, stop }
    }

    /// Returns the events of the commits that were not taken.
    pub(crate) async fn close(self) -> CommittedOffsets {
        self.stop.cancel();
        // The handle reports how the source ended.
        self.running.await.unwrap().ok();
        let report = self.handle.close(PATIENCE).await.unwrap();
        assert_eq!((report.unresolved, report.held), (0, 0));
        self.committed
    }

    /// Waits until the source ends by itself, and returns its error.
    pub(crate) async fn failed(self) -> PipelineError {
        let end = timeout(PATIENCE, self.running).await.expect("the source ends");
        end.unwrap().expect_err("the source fails")
    }

    /// Simulates a crash, as far as one process can: nothing more is committed.
    async fn crash(self) {
        self.running.abort();
        drop(self.running.await);
        drop(self.handle);
    }
}

/// Returns how often each reply was committed, by its value.
fn counts(broker: &Broker, topic: &str, least: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in broker.read_committed(topic, least) {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        *counts.entry(value).or_default() += 1;
    }
    counts
}

fn assert_once(counts: &BTreeMap<String, usize>, expected: usize) {
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "not answered once: {twice:?}");
    assert_eq!(counts.len(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_once() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(4).await;
    let replies = broker.topic(4).await;
    let group = unique("group");
    broker
        .fill_with(&requests, 4, 250, |p, n| {
            if n % 10 == 0 { format!("slow:{p}:{n}") } else { format!("{p}:{n}") }
        })
        .await;
    let member =
        Member::start(exactly_once(&broker, &requests, &group, &unique("id")), &replies).await;
    let counts = counts(&broker, &replies, 1000);
    member.close().await;
    assert_once(&counts, 1000);
    let committed = broker.committed(&requests, &group, 4);
    assert!(committed.values().all(|offset| *offset == 250), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_written_in_the_order_of_their_requests() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(1).await;
    let replies = broker.topic(1).await;
    let group = unique("group");
    let value = |_, n: usize| match n % 7 {
        0 => format!("slow:{n}"),
        3 => format!("bad:{n}"),
        _ => format!("{n}"),
    };
    broker.fill_with(&requests, 1, 200, value).await;
    let member =
        Member::start(exactly_once(&broker, &requests, &group, &unique("id")), &replies).await;
    let read = broker.read_committed(&replies, 200);
    member.close().await;
    let read: Vec<_> = read
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned())
        .collect();
    let expected: Vec<_> =
        (0..200).map(|n| if n % 7 == 3 { "error: bad".to_owned() } else { value(0, n) }).collect();
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_once_while_members_join_crash_and_leave() {
    let Some(broker) = broker() else { return };
    members_join_crash_and_leave(&broker, |_| {}).await;
}

/// With this protocol (KIP-848), the brokers assign the partitions and set the session timeout.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_once_while_members_of_the_consumer_protocol_join_and_leave() {
    let Some(broker) = broker() else { return };
    let consumer_protocol = |config: &mut SourceConfig| {
        config.options = [("group.protocol".to_owned(), "consumer".to_owned())].into();
    };
    members_join_crash_and_leave(&broker, consumer_protocol).await;
}

async fn members_join_crash_and_leave(broker: &Broker, adapt: impl Fn(&mut SourceConfig)) {
    let requests = broker.topic(4).await;
    let replies = broker.topic(4).await;
    let group = unique("group");
    let config = |id: &str| {
        let mut config = exactly_once(broker, &requests, &group, &format!("{group}-{id}"));
        adapt(&mut config);
        config
    };
    let mut total = 0;
    let mut fill = async || {
        let first = total;
        broker.fill_with(&requests, 4, 50, |p, n| format!("slow:{p}:{}", first + n)).await;
        total += 50;
    };
    let a = Member::start(config("a"), &replies).await;
    fill().await;
    let b = Member::start(config("b"), &replies).await;
    fill().await;
    broker.read_committed(&replies, 100);
    a.crash().await;
    fill().await;
    let a = Member::start(config("a"), &replies).await;
    fill().await;
    broker.read_committed(&replies, 500);
    b.close().await;
    fill().await;
    let counts = counts(broker, &replies, 1000);
    a.close().await;
    assert_once(&counts, 1000);
    let committed = broker.committed(&requests, &group, 4);
    assert!(committed.values().all(|offset| *offset == 250), "{committed:?}");
}

/// The replies that are finished while the last transaction before a handover is written are not in
/// it, so their requests must not be committed.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_once_although_a_drain_takes_too_long() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(4).await;
    let replies = broker.topic(4).await;
    let group = unique("group");
    let value = |p, n: usize| format!("wait:{}:{p}:{n}", 100 + 7 * (n % 30));
    let config = |id: &str| {
        let mut config = exactly_once(&broker, &requests, &group, &format!("{group}-{id}"));
        config.drain_timeout = Some(Duration::from_millis(100));
        config
    };
    broker.fill_with(&requests, 4, 800, value).await;
    let a = Member::start(config("a"), &replies).await;
    broker.read_committed(&replies, 100);
    let b = Member::start(config("b"), &replies).await;
    broker.read_committed(&replies, 1000);
    b.close().await;
    let counts = counts(&broker, &replies, 3200);
    a.close().await;
    assert_once(&counts, 3200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_too_large_for_the_brokers_becomes_an_error_reply() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(1).await;
    let replies = broker.topic(1).await;
    let group = unique("group");
    let value = |_, n: usize| if n == 30 { "grow".to_owned() } else { n.to_string() };
    broker.fill_with(&requests, 1, 60, value).await;
    // The client's limit is above that of the brokers, a megabyte.
    let options = [("message.max.bytes", "2000000")];
    let config = exactly_once(&broker, &requests, &group, &unique("id"));
    let member = Member::with(config, &replies, &options).await;
    let read = broker.read_committed(&replies, 60);
    member.close().await;
    let read: Vec<_> = read
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned())
        .collect();
    let expected: Vec<_> = (0..60)
        .map(|n| if n == 30 { "error: reply_too_large".to_owned() } else { n.to_string() })
        .collect();
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_sources_with_the_same_transactional_id_ends() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(2).await;
    let replies = broker.topic(2).await;
    let group = unique("group");
    let config = || exactly_once(&broker, &requests, &group, &format!("{group}-same"));
    let a = Member::start(config(), &replies).await;
    let b = Member::start(config(), &replies).await;
    let mut n = 0;
    while !a.running.is_finished() && !b.running.is_finished() {
        broker.fill_with(&requests, 2, 5, |p, of| format!("{p}:{}", n + of)).await;
        n += 5;
        assert!(n < 5_000, "neither source ended");
    }
    let (ended, other) = if a.running.is_finished() { (a, b) } else { (b, a) };
    let error = ended.handle.close(PATIENCE).await;
    // The handle returns the source's error only if the stream has not yielded it.
    if let Err(error) = error {
        assert!(matches!(error, Error::Fenced { .. } | Error::Uncommitted { .. }), "{error}");
    }
    let counts = counts(&broker, &replies, 2 * n);
    other.close().await;
    assert_once(&counts, 2 * n);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_answers_no_request_is_refused() {
    let Some(broker) = broker() else { return };
    let requests = broker.topic(1).await;
    let replies = broker.topic(1).await;
    let group = unique("group");
    let mut source =
        Source::connect(exactly_once(&broker, &requests, &group, &unique("id"))).await.unwrap();
    let mut sink = source.sink(SinkConfig::new(source_brokers(&broker), &replies)).await.unwrap();
    let error = sink.send(Event::detached(Reply::default())).await.unwrap_err();
    assert!(matches!(error, Error::NoRequest { .. }), "{error}");
}

fn source_brokers(broker: &Broker) -> String {
    broker.source("any", "any").brokers
}

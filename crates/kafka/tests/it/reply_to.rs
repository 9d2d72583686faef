//! Requests that name the target of their replies, as Spring's `ReplyingKafkaTemplate` does.
//!
//! Spring writes `kafka_replyTopic` as the name's UTF-8 bytes and `kafka_replyPartition` as
//! `ByteBuffer.putInt` does, see `KafkaHeaders` and `ReplyingKafkaTemplate.sendAndReceive` in
//! spring-kafka.

use std::sync::mpsc;

use bytes::Bytes;
use forebay_kafka::{Reply, ReplyKind, ReplyTopics, Sink, SinkConfig};
use forebay_stream::{Event, Header, Meta, Outcome, Receipt, Sink as _};

use crate::support::{Broker, Record, header, unique};

const TOPIC: &str = "kafka_replyTopic";
const PARTITION: &str = "kafka_replyPartition";

fn topic(name: &str) -> Header {
    Header { name: TOPIC.to_owned(), value: Some(Bytes::copy_from_slice(name.as_bytes())) }
}

fn partition(number: i32) -> Header {
    let value = Bytes::copy_from_slice(&number.to_be_bytes());
    Header { name: PARTITION.to_owned(), value: Some(value) }
}

fn allowing(broker: &Broker, own: &str, topics: &[&str]) -> SinkConfig {
    let mut config = SinkConfig::new(&broker.servers, own);
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    config.reply_to.topics = ReplyTopics::Listed(topics);
    config
}

/// A sink for replies that collects their outcomes.
struct Replies {
    sink: Sink,
    outcomes: mpsc::Sender<(&'static str, Outcome)>,
    seen: mpsc::Receiver<(&'static str, Outcome)>,
}

impl Replies {
    async fn to(config: SinkConfig) -> Self {
        let (outcomes, seen) = mpsc::channel();
        Self { sink: Sink::connect(config).await.unwrap(), outcomes, seen }
    }

    async fn send(&mut self, key: &'static str, headers: Vec<Header>, kind: ReplyKind) {
        self.send_value(key, headers, kind, Bytes::from_static(key.as_bytes())).await;
    }

    async fn send_value(
        &mut self,
        key: &'static str,
        headers: Vec<Header>,
        kind: ReplyKind,
        value: Bytes,
    ) {
        let outcomes = self.outcomes.clone();
        let receipt = Receipt::new(move |outcome| outcomes.send((key, outcome)).unwrap());
        let meta = Meta { key: Some(key.into()), headers, ..Meta::default() };
        let value = Reply { value: Some(value), headers: Vec::new(), kind };
        self.sink.send(Event { value, meta: meta.into(), receipt }).await.unwrap();
    }

    /// Closes the sink. Returns the code of each failure, or the name of any other outcome, in the
    /// order of the keys.
    async fn close(mut self) -> Vec<(&'static str, String)> {
        self.sink.close().await.unwrap();
        let code = |outcome| match outcome {
            Outcome::Failed(failure) => failure.code().to_owned(),
            outcome => format!("{outcome:?}").to_lowercase(),
        };
        let mut seen: Vec<_> =
            self.seen.try_iter().map(|(key, outcome)| (key, code(outcome))).collect();
        seen.sort();
        seen
    }
}

fn written(partition: i32, key: &'static str, headers: Vec<Header>) -> Record {
    Record { partition, key: Some(key.into()), value: Some(key.into()), headers }
}

#[tokio::test]
async fn a_reply_goes_to_the_topic_and_the_partition_that_its_request_names() {
    let broker = Broker::start();
    let own = broker.topic(3).await;
    let other = broker.topic(3).await;
    let mut replies = Replies::to(allowing(&broker, &own, &[&other])).await;
    let id = || header("kafka_correlationId", Some(b"\x00\xff\xfe"));
    let both = || vec![id(), topic(&other), partition(2), header("nothing", None)];
    let there = || vec![partition(1), topic(&own), id()];
    replies.send("both", both(), ReplyKind::Result).await;
    replies.send("error", both(), ReplyKind::Error).await;
    replies.send("own", there(), ReplyKind::Result).await;
    replies.send("partition", vec![partition(0)], ReplyKind::Result).await;
    let done = ["both", "error", "own", "partition"].map(|key| (key, "done".to_owned()));
    assert_eq!(replies.close().await, done);

    let expected = [written(2, "both", both()), written(2, "error", both())];
    assert_eq!(broker.read_partition(&other, 2, 2), expected);
    assert_eq!(broker.read_partition(&own, 1, 1), [written(1, "own", there())]);
    assert_eq!(broker.read_partition(&own, 0, 1), [written(0, "partition", vec![partition(0)])]);
}

#[tokio::test]
async fn if_the_target_cannot_be_used_results_fail_and_errors_go_to_the_sinks_own_topic() {
    let broker = Broker::start();
    let own = broker.topic(1).await;
    let other = broker.topic(2).await;
    let forbidden = broker.topic(1).await;
    let missing = unique("missing");
    let config = || allowing(&broker, &own, &[&other, &missing]);
    let long = "x".repeat(250);
    let raw = |name: &str, value: &'static [u8]| header(name, Some(value));
    let cases = [
        ("forbidden", vec![topic(&forbidden)], "reply_topic_not_allowed"),
        ("forbidden, last", vec![topic(&other), topic(&forbidden)], "reply_topic_not_allowed"),
        ("internal", vec![topic("__consumer_offsets")], "reply_topic_not_allowed"),
        ("missing", vec![topic(&missing)], "reply_topic_missing"),
        ("missing, with a partition", vec![topic(&missing), partition(0)], "reply_topic_missing"),
        ("no name", vec![topic("")], "invalid_reply_topic"),
        ("two dots", vec![topic("..")], "invalid_reply_topic"),
        ("a space", vec![topic("a b")], "invalid_reply_topic"),
        ("too long", vec![topic(&long)], "invalid_reply_topic"),
        ("not UTF-8", vec![raw(TOPIC, b"\xff")], "invalid_reply_topic"),
        ("a null character", vec![raw(TOPIC, b"a\0b")], "invalid_reply_topic"),
        ("no such partition", vec![topic(&other), partition(2)], "invalid_reply_partition"),
        ("no such partition here", vec![partition(1)], "invalid_reply_partition"),
        ("far out", vec![partition(i32::MAX)], "invalid_reply_partition"),
        ("negative", vec![topic(&other), partition(-1)], "invalid_reply_partition"),
        ("empty", vec![raw(PARTITION, b"")], "invalid_reply_partition"),
        ("text", vec![raw(PARTITION, b"zero")], "invalid_reply_partition"),
        ("eight bytes", vec![raw(PARTITION, &[0; 8])], "invalid_reply_partition"),
    ];

    let mut results = Replies::to(config()).await;
    let mut errors = Replies::to(config()).await;
    for (key, headers, _) in &cases {
        results.send(key, headers.clone(), ReplyKind::Result).await;
        errors.send(key, headers.clone(), ReplyKind::Error).await;
    }
    let mut expected = cases.each_ref().map(|(key, _, code)| (*key, (*code).to_owned()));
    expected.sort();
    assert_eq!(results.close().await, expected);
    let done = expected.map(|(key, _)| (key, "done".to_owned()));
    assert_eq!(errors.close().await, done);

    // The sink's own topic has the errors and nothing else.
    let expected = cases.map(|(key, headers, _)| written(0, key, headers));
    assert_eq!(broker.read(&own, expected.len()), expected);
    assert_eq!(broker.ends(&own), [i64::try_from(expected.len()).unwrap()]);
    assert_eq!(broker.ends(&other), [0, 0]);
    assert_eq!(broker.ends(&forbidden), [0]);
}

#[tokio::test]
async fn without_a_list_only_the_sinks_own_topic_may_be_named() {
    let broker = Broker::start();
    let own = broker.topic(1).await;
    let other = broker.topic(1).await;
    let mut replies = Replies::to(SinkConfig::new(&broker.servers, &own)).await;
    replies.send("a", vec![topic(&own)], ReplyKind::Result).await;
    replies.send("b", vec![topic(&other)], ReplyKind::Result).await;
    let expected = [("a", "done".to_owned()), ("b", "reply_topic_not_allowed".to_owned())];
    assert_eq!(replies.close().await, expected);
}

#[tokio::test]
async fn topics_that_are_read_are_refused_even_if_all_topics_are_allowed() {
    let broker = Broker::start();
    let own = broker.topic(1).await;
    let other = broker.topic(1).await;
    let requests = broker.topic(1).await;
    let mut config = SinkConfig::new(&broker.servers, &own);
    config.reply_to.topics = ReplyTopics::Any;
    config.reply_to.never.insert(requests.clone());
    let mut replies = Replies::to(config).await;
    replies.send("a", vec![topic(&other)], ReplyKind::Result).await;
    replies.send("b", vec![topic(&requests)], ReplyKind::Result).await;
    replies.send("c", vec![topic("__consumer_offsets")], ReplyKind::Result).await;
    let missing = unique("missing");
    replies.send("d", vec![topic(&missing)], ReplyKind::Result).await;
    let refused = "reply_topic_not_allowed".to_owned();
    let expected = [
        ("a", "done".to_owned()),
        ("b", refused.clone()),
        ("c", refused),
        ("d", "reply_topic_missing".to_owned()),
    ];
    assert_eq!(replies.close().await, expected);
    assert_eq!(broker.read(&other, 1).len(), 1);
    assert!(broker.ends(&missing).is_empty(), "a request created a topic");
}

#[tokio::test]
async fn null_headers_are_ignored_and_the_last_of_several_headers_counts() {
    let broker = Broker::start();
    let own = broker.topic(1).await;
    let other = broker.topic(2).await;
    let mut replies = Replies::to(allowing(&broker, &own, &[&other])).await;
    replies
        .send("null", vec![header(TOPIC, None), header(PARTITION, None)], ReplyKind::Result)
        .await;
    let twice = vec![topic("no such"), topic(&other), partition(7), partition(1)];
    replies.send("twice", twice, ReplyKind::Result).await;
    let done = ["null", "twice"].map(|key| (key, "done".to_owned()));
    assert_eq!(replies.close().await, done);
    assert_eq!(broker.read(&own, 1)[0].key, Some("null".into()));
    assert_eq!(broker.read_partition(&other, 1, 1)[0].key, Some("twice".into()));
}

#[tokio::test]
async fn the_names_of_the_headers_can_be_configured() {
    let broker = Broker::start();
    let own = broker.topic(1).await;
    let other = broker.topic(1).await;
    let mut config = allowing(&broker, &own, &[&other]);
    config.reply_to.topic_header = "reply-to".into();
    config.reply_to.partition_header = "reply-partition".into();
    let mut replies = Replies::to(config).await;
    let named = Header { name: "reply-to".into(), ..topic(&other) };
    replies.send("theirs", vec![named], ReplyKind::Result).await;
    replies.send("spring's", vec![topic(&other), partition(9)], ReplyKind::Result).await;
    let done = ["spring's", "theirs"].map(|key| (key, "done".to_owned()));
    assert_eq!(replies.close().await, done);
    assert_eq!(broker.read(&other, 1)[0].key, Some("theirs".into()));
    assert_eq!(broker.read(&own, 1)[0].key, Some("spring's".into()));
}

#[tokio::test]
async fn an_error_that_the_named_topic_refuses_goes_to_the_sinks_own_topic() {
    let broker = Broker::start();
    let Some(small) = broker.topic_with(&[("max.message.bytes", "1000")]).await else { return };
    let own = broker.topic(1).await;
    let mut config = allowing(&broker, &own, &[&small]);
    // Small batches, because brokers refuse whole batches.
    config.options.insert("batch.size".into(), "500".into());
    let mut replies = Replies::to(config).await;
    let large = || Bytes::from(vec![b'x'; 5000]);
    let named = || vec![topic(&small), partition(0)];
    replies.send_value("error", named(), ReplyKind::Error, large()).await;
    replies.send_value("result", named(), ReplyKind::Result, large()).await;
    replies.send("small", named(), ReplyKind::Result).await;
    let expected = [("error", "done"), ("result", "reply_too_large"), ("small", "done")];
    assert_eq!(replies.close().await, expected.map(|(key, code)| (key, code.to_owned())));
    let error = Record { value: Some(large()), ..written(0, "error", named()) };
    assert_eq!(broker.read(&own, 1), [error]);
    assert_eq!(broker.read(&small, 1), [written(0, "small", named())]);
}

//! Plain Kafka clients: producers of requests and a consumer of replies.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::time::Instant;

use crate::broker::Broker;

/// Longest wait for all replies. The margin is wide, so that only a lost reply exceeds it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request with the correlation id, key and value that its sender gave it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// A reply as it is read from its topic.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Value,
    /// The text of the value, before it was parsed.
    pub(crate) raw: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Reply {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let raw = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: serde_json::from_str(&raw).unwrap(),
            raw,
            partition: message.partition(),
            offset: message.offset(),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header == name)?.1.as_deref()
    }

    pub(crate) fn code(&self) -> &str {
        self.value["error"]["code"].as_str().unwrap_or("none")
    }
}

/// Produces the requests from `producers` clients at once, each request with its correlation id and
/// two other headers.
pub(crate) fn produce(broker: &Broker, requests: &[Request], producers: usize) {
    std::thread::scope(|scope| {
        for part in requests.chunks(requests.len().div_ceil(producers)) {
            scope.spawn(|| produce_with(broker, part, &[]));
        }
    });
}

/// Produces the requests from one client, with more headers.
pub(crate) fn produce_with(broker: &Broker, requests: &[Request], more: &[(&str, &[u8])]) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    for request in requests {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "kafka_correlationId", value: Some(&request.id) })
            .insert(Header { key: "sender", value: Some(b"\x00\xff".as_slice()) })
            .insert(Header { key: "nothing", value: None::<&[u8]> });
        let headers = more.iter().fold(headers, |headers, &(key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut record = BaseRecord::<[u8], [u8]>::to(&broker.requests).headers(headers);
        record.key = request.key.as_deref();
        record.payload = request.value.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Reads replies from the start of their topic until every request in `expected` has one. Returns
/// all replies by correlation id.
pub(crate) fn read_replies(broker: &Broker, expected: &[Request]) -> HashMap<String, Vec<Reply>> {
    let consumer = from_start(broker, &[&broker.replies]);
    let mut replies: HashMap<String, Vec<Reply>> = HashMap::new();
    let deadline = Instant::now() + PATIENCE;
    while replies.len() < expected.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} requests have replies",
            replies.len(),
            expected.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let reply = Reply::of(&message);
        let id = String::from_utf8(reply.header("kafka_correlationId").unwrap().to_vec()).unwrap();
        replies.entry(id).or_default().push(reply);
    }
    replies
}

/// Returns all replies that a topic holds now.
pub(crate) fn all_replies(broker: &Broker, topic: &str) -> Vec<Reply> {
    let consumer = from_start(broker, &[topic]);
    let ends = (0..4).map(|n| consumer.fetch_watermarks(topic, n, PATIENCE).unwrap().1);
    let count = usize::try_from(ends.sum::<i64>()).unwrap();
    let mut replies = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while replies.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} replies were read", replies.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        replies.push(Reply::of(&message.unwrap()));
    }
    replies
}

/// Returns the number of requests in the topic whose offsets the group has not committed.
pub(crate) fn lag(broker: &Broker) -> i64 {
    let consumer = reader(broker, &broker.group);
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range(&broker.requests, 0, 3);
    let committed = consumer.committed_offsets(partitions, PATIENCE).unwrap();
    let lags = committed.elements().into_iter().map(|partition| {
        let (low, high) =
            consumer.fetch_watermarks(&broker.requests, partition.partition(), PATIENCE).unwrap();
        high - partition.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(low)
    });
    lags.sum()
}

/// Returns the offsets that the group has committed, by partition.
pub(crate) fn committed(broker: &Broker) -> BTreeMap<i64, i64> {
    let consumer = reader(broker, &broker.group);
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range(&broker.requests, 0, 3);
    let committed = consumer.committed_offsets(partitions, PATIENCE).unwrap();
    let offset = |offset: Offset| offset.to_raw().filter(|offset| *offset >= 0);
    let elements = committed.elements().into_iter();
    elements.filter_map(|of| Some((of.partition().into(), offset(of.offset())?))).collect()
}

/// Reads all records of a topic of four partitions. Returns their keys and values; those of one
/// partition are in order.
pub(crate) fn read_values(broker: &Broker, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let consumer = from_start(broker, &[topic]);
    let mut left: i64 = (0..4)
        .map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap())
        .map(|(low, high)| high - low)
        .sum();
    let mut records = Vec::new();
    while left > 0 {
        let message = consumer.poll(PATIENCE).expect("a record in time").unwrap();
        let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        records.push((bytes(message.key()), bytes(message.payload())));
        left -= 1;
    }
    records
}

/// Returns a consumer that reads topics of four partitions from their start.
pub(crate) fn from_start(broker: &Broker, topics: &[&str]) -> BaseConsumer {
    let consumer = reader(broker, "reader");
    let mut start = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..4 {
            start.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&start).unwrap();
    consumer
}

fn reader(broker: &Broker, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", &broker.address)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .unwrap()
}

//! The headers of a request that have an effect: reply topic and partition, deadline, and trace.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Service, forebay};
use crate::broker::Broker;
use crate::clients::from_start;

const PATIENCE: Duration = Duration::from_mins(1);

/// A pipeline without a model that answers a request with its own value.
const PIPELINE: &str = r#"
[source.kafka]
brokers = "${KAFKA_BROKERS}"
topic = "${REQUESTS_TOPIC}"
group = "${CONSUMER_GROUP}"
[[step]]
timed_window = { interval = "5ms", max_size = 64 }
[[step]]
map_batch = "."
[sink.kafka]
topic = "${REPLIES_TOPIC}"
reply_topics = ["${OTHER_TOPIC}", "no-such-topic"]
"#;

/// A header value that is replaced by the name of the second reply topic, which differs in each
/// test.
const OTHER: &[u8] = b"OTHER";

type Fields<'a> = Vec<(&'a str, Vec<u8>)>;

/// A reply with its topic and partition.
#[derive(Debug)]
struct Reply {
    topic: String,
    partition: i32,
    value: String,
    headers: BTreeMap<String, Vec<u8>>,
}

/// Sends one request for each set of headers; key and value are the number of the request. Returns
/// the broker, the name of the second reply topic, and the replies in the order of the requests.
fn replies(name: &str, requests: &[Fields<'_>]) -> (Broker, String, Vec<Reply>) {
    let broker = Broker::start(name);
    let other = broker.topic("other");
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PIPELINE).unwrap();
    let mut command = forebay();
    command.arg("run").arg(file.path()).envs(broker.variables()).env("OTHER_TOPIC", &other);
    let service = Service::start(&mut command);

    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    for (number, fields) in requests.iter().enumerate() {
        let key = number.to_string();
        let value = number.to_string();
        let id = OwnedHeaders::new().insert(Header { key: "id", value: Some(&key) });
        let headers = fields.iter().fold(id, |headers, (key, value)| {
            let value = if value == OTHER { other.as_bytes() } else { value };
            headers.insert(Header { key, value: Some(value) })
        });
        let record = BaseRecord::to(&broker.requests).key(&key).payload(&value).headers(headers);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();

    let mut found = BTreeMap::new();
    let consumer = from_start(&broker, &[&broker.replies, &other]);
    let deadline = Instant::now() + PATIENCE;
    while found.len() < requests.len() {
        assert!(Instant::now() < deadline, "{found:#?}");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let headers: BTreeMap<_, _> = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key.to_owned(), header.value.unwrap().to_vec()))
            .collect();
        let number: usize = String::from_utf8(headers["id"].clone()).unwrap().parse().unwrap();
        assert_eq!(message.key(), Some(number.to_string().as_bytes()));
        let reply = Reply {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            value: String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
            headers,
        };
        assert!(found.insert(number, reply).is_none(), "{number} was answered twice");
    }
    service.stop();
    (broker, other, found.into_values().collect())
}

/// Returns the error code of a reply, or `none` for a result. Checks that value and header have the
/// same code.
fn code(reply: &Reply) -> String {
    let value: serde_json::Value = serde_json::from_str(&reply.value).unwrap();
    let code = value["error"]["code"].as_str().unwrap_or("none").to_owned();
    let header = reply.headers.get("forebay-error-code");
    assert_eq!(header.map_or(&b"none"[..], |header| header), code.as_bytes());
    code
}

#[test]
fn a_reply_goes_to_the_requested_topic_and_partition_unless_these_are_invalid() {
    let topic = |name: &str| ("kafka_replyTopic", name.as_bytes().to_vec());
    let partition = |bytes: &[u8]| ("kafka_replyPartition", bytes.to_vec());
    let requests = [
        vec![partition(&[0, 0, 0, 3]), topic("OTHER")],
        vec![topic("OTHER"), partition(&[0, 0, 0, 4])],
        vec![partition(&[0, 0, 0, 2])],
        vec![topic("no-such-topic")],
        vec![topic("not-allowed")],
        vec![topic("not a topic")],
        vec![partition(b"x3")],
        vec![partition(b"3")],
        vec![],
    ];
    let (broker, other, replies) = replies("reply-to", &requests);
    let codes: Vec<_> = replies.iter().map(code).collect();
    let missing = "reply_topic_missing";
    let partition = "invalid_reply_partition";
    let expected = [
        "none",
        partition,
        "none",
        missing,
        "reply_topic_not_allowed",
        "invalid_reply_topic",
        partition,
        "none",
        "none",
    ];
    assert_eq!(codes, expected);
    assert_eq!((&replies[0].topic, replies[0].partition), (&other, 3));
    assert_eq!(replies[2].partition, 2);
    assert_eq!(replies[7].partition, 3, "NestJS writes digits");
    assert!(replies[1..].iter().all(|reply| reply.topic == broker.replies), "{replies:#?}");
    for (reply, request) in replies.iter().zip(requests) {
        for (name, value) in request {
            let value = if value == OTHER { other.as_bytes() } else { &*value };
            assert_eq!(reply.headers[name], value, "{reply:?}");
        }
    }
}

#[test]
fn only_requests_past_their_deadline_get_an_error() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let at = |millis: u128| vec![("forebay-deadline-ms", millis.to_string().into_bytes())];
    let after = |value: &str| vec![("forebay-timeout-ms", value.as_bytes().to_vec())];
    let requests = [
        at(now - 1),
        at(now + 3_600_000),
        vec![("forebay-deadline-ms", b"soon".to_vec())],
        after("0"),
        after("3600000"),
        after("-1"),
        vec![],
    ];
    let (_, _, replies) = replies("deadline", &requests);
    let codes: Vec<_> = replies.iter().map(code).collect();
    let late = "deadline_exceeded";
    let invalid = "invalid_deadline";
    assert_eq!(codes, [late, "none", invalid, late, "none", invalid, "none"]);
}

#[test]
fn a_reply_carries_the_trace_of_its_request() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let state = ("tracestate", b"congo=t61rcWkgMzE".to_vec());
    let requests = [
        vec![("traceparent", parent.as_bytes().to_vec()), state.clone()],
        vec![("traceparent", b"what?".to_vec()), state],
    ];
    let (_, _, replies) = replies("trace", &requests);
    assert_eq!(replies[0].headers["traceparent"], parent.as_bytes());
    assert_eq!(replies[1].headers["traceparent"], b"what?");
    assert!(replies.iter().all(|reply| reply.headers["tracestate"] == b"congo=t61rcWkgMzE"));
}

//! Replays write dead letters back to their origins, once each. The broker is the one in
//! `KAFKA_BROKERS` if it is set, otherwise the embedded one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "forebay-kafka's own tests use the rest")]
#[path = "../../kafka/tests/it/support.rs"]
mod support;

use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{DeadLetter, EmbeddedBroker, Error, SinkConfig};
use forebay_replay::{Letter, Replay, ReplayConfig, ReplayTo, Replayed};
use forebay_stream::{Failure, Header, Meta, Origin};

use support::{Broker, PATIENCE, Record, header, unique};

/// A dead letter as a pipeline writes it, in partition 0.
fn letter(topic: &str, partition: i32, code: &'static str, request: Record) -> Record {
    let origin = Origin { source: topic.into(), partition: Some(partition), position: 7 };
    let meta = Meta { key: request.key, headers: request.headers, origin, ..Meta::default() };
    let failure = Failure::new(code, "it went wrong").at("step");
    let letter = DeadLetter::of(&meta, request.value, &failure);
    let headers = meta.headers.into_iter().chain(letter.headers).collect();
    Record { partition: 0, key: meta.key, value: letter.value, headers }
}

fn request(value: &'static str) -> Record {
    Record { value: Some(Bytes::from_static(value.as_bytes())), ..Record::default() }
}

struct Topics<'a> {
    broker: &'a Broker,
    requests: String,
    letters: String,
    group: String,
}

impl<'a> Topics<'a> {
    async fn new(broker: &'a Broker) -> Self {
        let requests = broker.topic(4).await;
        let letters = broker.topic(2).await;
        Self { broker, requests, letters, group: unique("replay") }
    }

    fn config(&self) -> ReplayConfig {
        ReplayConfig {
            letters: self.broker.source(&self.letters, &self.group),
            to: ReplayTo::Origins(vec![SinkConfig::new(&self.broker.servers, &self.requests)]),
            from_beginning: false,
        }
    }

    async fn put(&self, code: &'static str, values: &[&'static str]) {
        let records: Vec<_> =
            values.iter().map(|value| letter(&self.requests, 1, code, request(value))).collect();
        self.broker.write(&self.letters, &records).await;
    }
}

/// Replays the letters that `wanted` selects. Returns the values that were sent, and the counts.
async fn replay(
    config: ReplayConfig,
    mut wanted: impl FnMut(&Letter) -> bool,
) -> (Vec<String>, Replayed) {
    let mut replay = Replay::connect(config).await.unwrap();
    let mut sent = Vec::new();
    while let Some(letter) = next(&mut replay).await {
        if wanted(&letter) {
            replay.send(&letter).await.unwrap();
            sent.push(String::from_utf8(letter.value.unwrap().to_vec()).unwrap());
        }
    }
    let (replayed, closed) = replay.close().await;
    closed.unwrap();
    (sent, replayed)
}

async fn next(replay: &mut Replay) -> Option<Letter> {
    tokio::time::timeout(PATIENCE, replay.next()).await.expect("an answer in time").unwrap()
}

#[tokio::test]
async fn a_request_goes_back_byte_for_byte_to_its_partition() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    let requests = [
        Record {
            partition: 3,
            key: Some(Bytes::from_static(b"\x00\xff key")),
            value: Some(Bytes::from_static(b"\xff\x00 value")),
            headers: vec![
                header("id", Some(b"\xff")),
                header("null", None),
                header("id", Some(b"")),
                header("forebay-dead-letters", Some(b"mine")),
            ],
        },
        Record { partition: 0, ..Record::default() },
        Record {
            partition: 2,
            key: Some(Bytes::new()),
            value: Some(Bytes::new()),
            headers: vec![],
        },
    ];
    let letters = requests.clone().map(|one| letter(&topics.requests, one.partition, "a", one));
    broker.write(&topics.letters, &letters).await;

    let mut replay = Replay::connect(topics.config()).await.unwrap();
    while let Some(letter) = next(&mut replay).await {
        assert_eq!((letter.about.code.as_str(), letter.about.stage.as_str()), ("a", "step"));
        assert_eq!(replay.topic_for(&letter.about), Some(&*topics.requests));
        replay.send(&letter).await.unwrap();
    }
    let (replayed, closed) = replay.close().await;
    closed.unwrap();
    assert_eq!(replayed, Replayed { letters: 3, written: 3, ..Replayed::default() });
    for request in requests {
        assert_eq!(broker.read_partition(&topics.requests, request.partition, 1), [request]);
    }
    assert_eq!(broker.ends(&topics.requests), [1, 0, 1, 1]);
}

#[tokio::test]
async fn a_second_replay_sends_only_what_is_new() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    topics.put("a", &["1", "2"]).await;
    let replayed = replay(topics.config(), |_| true).await;
    let all = |letters| Replayed { letters, written: letters, ..Replayed::default() };
    assert_eq!(replayed, (vec!["1".to_owned(), "2".to_owned()], all(2)));
    assert_eq!(replay(topics.config(), |_| true).await, (vec![], all(0)));
    topics.put("a", &["3"]).await;
    assert_eq!(replay(topics.config(), |_| true).await, (vec!["3".to_owned()], all(1)));
    let other = ReplayConfig {
        letters: broker.source(&topics.letters, &unique("other")),
        ..topics.config()
    };
    assert_eq!(replay(other, |_| true).await.0.len(), 3, "another group has replayed nothing");
}

#[tokio::test]
async fn the_next_replay_reads_only_letters_that_were_not_sent() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    topics.put("a", &["1", "2"]).await;
    topics.put("b", &["3"]).await;
    topics.put("a", &["4"]).await;
    topics.put("b", &["5", "6"]).await;
    let code = |wanted: &'static str| move |letter: &Letter| letter.about.code == wanted;
    let (sent, replayed) = replay(topics.config(), code("b")).await;
    assert_eq!(sent, ["3", "5", "6"]);
    assert_eq!(replayed, Replayed { letters: 6, written: 3, ..Replayed::default() });
    assert_eq!(broker.committed(&topics.letters, &topics.group, 1)[&0], 0);

    let (sent, replayed) = replay(topics.config(), code("b")).await;
    assert_eq!((sent.len(), replayed.letters), (0, 3), "only the letters that are left are read");
    let (sent, _) = replay(topics.config(), |letter| letter.value.as_deref() != Some(b"2")).await;
    assert_eq!(sent, ["1", "4"]);
    assert_eq!(replay(topics.config(), |_| true).await.0, ["2"]);
    assert_eq!(broker.committed(&topics.letters, &topics.group, 1)[&0], 6);
    assert_eq!(broker.ends(&topics.requests), [0, 6, 0, 0]);

    let again = ReplayConfig { from_beginning: true, ..topics.config() };
    assert_eq!(replay(again, code("a")).await.0, ["1", "2", "4"]);
    assert_eq!(replay(topics.config(), |_| true).await.0, [""; 0]);
}

#[tokio::test]
async fn letters_written_during_a_replay_are_left_for_the_next_one() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    topics.put("a", &["1"]).await;
    let mut replay = Replay::connect(topics.config()).await.unwrap();
    topics.put("a", &["2"]).await;
    assert!(next(&mut replay).await.is_some());
    assert_eq!(next(&mut replay).await, None);
}

#[tokio::test]
async fn a_replay_that_is_dropped_commits_nothing() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    broker.write(&topics.letters, &[request("no letter")]).await;
    topics.put("a", &["1"]).await;
    for _ in 0..2 {
        let mut replay = Replay::connect(topics.config()).await.unwrap();
        while next(&mut replay).await.is_some() {}
        assert_eq!(replay.replayed(), Replayed { letters: 1, others: 1, ..Replayed::default() });
    }
    assert!(broker.committed(&topics.letters, &topics.group, 2).is_empty());
    assert_eq!(broker.ends(&topics.requests), [0; 4]);
}

#[tokio::test]
async fn letters_from_other_topics_are_left_for_another_replay() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    let elsewhere = letter("elsewhere", 0, "a", request("2"));
    let almost = Record {
        headers: vec![header("forebay-dead-letter-topic", Some(b"elsewhere"))],
        ..request("no letter")
    };
    broker.write(&topics.letters, &[request("no letter"), almost, elsewhere]).await;
    topics.put("a", &["1"]).await;
    let (sent, replayed) = replay(topics.config(), |_| true).await;
    let counts =
        Replayed { letters: 2, written: 1, elsewhere: 1, others: 2, ..Replayed::default() };
    assert_eq!((sent, replayed), (vec!["1".to_owned()], counts));

    let to = broker.topic(1).await;
    let config = ReplayConfig {
        to: ReplayTo::Topic(SinkConfig::new(&broker.servers, &to)),
        ..topics.config()
    };
    let (sent, replayed) = replay(config, |_| true).await;
    assert_eq!((sent, replayed.others), (vec!["2".to_owned()], 0));
    assert_eq!(broker.read(&to, 1), [request("2")]);
}

#[tokio::test]
async fn a_letter_that_was_not_confirmed_is_read_again() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    topics.put("a", &["1"]).await;
    let away = EmbeddedBroker::start(&[("requests", 1)]).unwrap();
    let mut sink = SinkConfig::new(away.bootstrap_servers(), "requests");
    sink.delivery_timeout = Duration::from_millis(300);
    let config = ReplayConfig { to: ReplayTo::Topic(sink), ..topics.config() };
    let mut refused_replay = Replay::connect(config).await.unwrap();
    let letter = next(&mut refused_replay).await.unwrap();
    drop(away);
    refused_replay.send(&letter).await.unwrap();
    let (replayed, closed) = refused_replay.close().await;
    assert!(matches!(closed, Err(Error::Write { .. })), "{closed:?}");
    assert_eq!(replayed.written, 0);
    assert_eq!(replay(topics.config(), |_| true).await.0, ["1"]);
}

#[tokio::test]
async fn a_letter_that_the_brokers_refuse_does_not_stop_the_others() {
    let broker = Broker::start();
    let Some(narrow) = broker.topic_with(&[("max.message.bytes", "2000")]).await else { return };
    let topics = Topics::new(&broker).await;
    let large = Record { value: Some(vec![b'x'; 5_000].into()), ..Record::default() };
    broker.write(&topics.letters, &[letter(&topics.requests, 0, "a", large)]).await;
    topics.put("a", &["1"]).await;
    let config = ReplayConfig {
        to: ReplayTo::Topic(SinkConfig::new(&broker.servers, &narrow)),
        ..topics.config()
    };
    let (_, replayed) = replay(config, |_| true).await;
    let counts = Replayed { letters: 2, written: 1, refused: 1, ..Replayed::default() };
    assert_eq!(replayed, counts);
    assert_eq!(broker.read(&narrow, 1), [request("1")]);
    assert_eq!(replay(topics.config(), |_| true).await.0, ["x".repeat(5_000)]);
}

#[tokio::test]
async fn many_letters_of_several_partitions_are_replayed() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    let letters: Vec<_> = (0..3_000)
        .map(|number: i32| {
            let value = Some(number.to_string().into());
            let one = Record { value, ..Record::default() };
            let letter = letter(&topics.requests, number % 4, "a", one);
            Record { partition: number % 2, ..letter }
        })
        .collect();
    broker.write(&topics.letters, &letters).await;
    let odd = |letter: &Letter| letter.value.as_ref().unwrap().ends_with(b"7");
    assert_eq!(replay(topics.config(), odd).await.1.written, 300);
    assert_eq!(replay(topics.config(), |_| true).await.1.written, 2_700);
    assert_eq!(broker.ends(&topics.requests), [750; 4]);
}

#[tokio::test]
async fn a_replay_does_not_connect_to_topics_that_cannot_work() {
    let broker = Broker::start();
    let topics = Topics::new(&broker).await;
    let itself = ReplayTo::Topic(SinkConfig::new(&broker.servers, &topics.letters));
    let error = Replay::connect(ReplayConfig { to: itself, ..topics.config() }).await.unwrap_err();
    assert!(matches!(error, Error::Setting { setting: "to", .. }), "{error}");
    if broker.embedded.is_some() {
        eprintln!("skipped: the embedded broker creates every topic that it is asked for");
        return;
    }
    let letters = broker.source("no-such-topic", &topics.group);
    let error = Replay::connect(ReplayConfig { letters, ..topics.config() }).await.unwrap_err();
    assert!(matches!(&error, Error::NoSuchTopic { topic, .. } if topic == "no-such-topic"));
    let to = ReplayTo::Origins(vec![SinkConfig::new(&broker.servers, "no-such-origin")]);
    let error = Replay::connect(ReplayConfig { to, ..topics.config() }).await.unwrap_err();
    assert!(matches!(&error, Error::NoSuchTopic { topic, .. } if topic == "no-such-origin"));
}

/// A client may write any headers, including those of a dead letter.
#[test]
fn a_request_cannot_pretend_to_be_a_letter_of_another_topic() {
    let forged = header("forebay-dead-letter-topic", Some(b"payments"));
    let letter = letter("requests", 0, "a", Record { headers: vec![forged], ..request("1") });
    let headers: Vec<Header> = letter.headers;
    assert_eq!(&*DeadLetter::read(&headers).unwrap().origin.source, "requests");
    assert!(DeadLetter::original_headers(headers).is_empty());
}

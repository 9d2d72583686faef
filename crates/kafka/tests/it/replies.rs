//! Replies and their outcomes.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{DropHeaders, Reply, Sink, SinkConfig};
use forebay_stream::{Event, Header, Meta, Outcome, Receipt, Sink as _};

use crate::support::{Broker, PATIENCE, Record, header, next, start, unique};

#[tokio::test]
async fn a_reply_carries_its_requests_key_and_headers_byte_for_byte() {
    let broker = Broker::start();
    let requests = broker.topic(1).await;
    let replies = broker.topic(1).await;
    let request = |key: Option<&'static [u8]>, value: Option<&'static [u8]>, headers| Record {
        partition: 0,
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from_static),
        headers,
    };
    let sent = [
        request(
            Some(b"\xff\x00key"),
            Some(b"{}"),
            vec![header("kafka_correlationId", Some(b"\x00\xfe"))],
        ),
        request(None, Some(b""), vec![header("null", None), header("empty", Some(b""))]),
        request(Some(b""), None, vec![header("twice", Some(b"1")), header("twice", Some(b"2"))]),
        request(Some(b"plain"), Some(b"x"), vec![]),
    ];
    broker.write(&requests, &sent).await;

    let (mut events, handle) = start(broker.source(&requests, &unique("group"))).await;
    let mut sink = Sink::connect(SinkConfig::new(&broker.servers, &replies)).await.unwrap();
    for _ in &sent {
        let event = next(&mut events).await;
        assert!(event.meta.timestamp.is_some());
        let own = vec![header("reply", Some(b"yes"))];
        sink.send(event.map(|value| Reply { value, headers: own, ..Reply::default() }))
            .await
            .unwrap();
    }
    sink.close().await.unwrap();
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);

    let expected = sent.map(|mut record| {
        record.headers.push(header("reply", Some(b"yes")));
        record
    });
    assert_eq!(broker.read(&replies, 4), expected);
}

#[tokio::test]
async fn a_reply_has_its_requests_headers_except_those_to_drop() {
    let broker = Broker::start();
    let replies = broker.topic(1).await;
    let config = SinkConfig::new(&broker.servers, &replies);
    let keep_all = SinkConfig { drop_headers: DropHeaders::new([""; 0]), ..config.clone() };
    let kept = || {
        vec![
            header("traceparent", Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
            header("tracestate", Some(b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            header("kafka_correlationId", Some(b"\x00\xff")),
            header("b", None),
        ]
    };
    let dropped = [
        header("__TypeId__", Some(b"com.example.Request")),
        header("content-encoding", Some(b"gzip")),
        header("ce_id", Some(b"7")),
        header("forebay-error-code", Some(b"invalid_json")),
    ];
    let all: Vec<Header> = kept().into_iter().zip(dropped).flat_map(<[_; 2]>::from).collect();
    for config in [config, keep_all] {
        let mut sink = Sink::connect(config).await.unwrap();
        let meta = Meta { headers: all.clone(), ..Meta::default() };
        let value = Reply { headers: vec![header("own", None)], ..Reply::default() };
        sink.send(Event { value, meta: meta.into(), receipt: Receipt::detached() }).await.unwrap();
        sink.close().await.unwrap();
    }
    let written = broker.read(&replies, 2);
    let own = [header("own", None)];
    assert_eq!(written[0].headers, [&kept()[..], &own[..]].concat());
    assert_eq!(written[1].headers, [&all[..], &own[..]].concat());
}

fn watched(value: Bytes, key: &'static str, outcomes: &mpsc::Sender<Outcome>) -> Event<Reply> {
    let outcomes = outcomes.clone();
    let receipt = Receipt::new(move |outcome| outcomes.send(outcome).unwrap());
    let meta = Meta { key: Some(key.into()), ..Meta::default() };
    let value = Reply { value: Some(value), ..Reply::default() };
    Event { value, meta: meta.into(), receipt }
}

#[tokio::test]
async fn a_reply_that_is_too_large_fails_its_own_receipt_only() {
    let broker = Broker::start();
    let replies = broker.topic(1).await;
    let mut sink = Sink::connect(SinkConfig::new(&broker.servers, &replies)).await.unwrap();
    let (outcomes, seen) = mpsc::channel();
    sink.send(watched(Bytes::from(vec![0; 2_000_000]), "large", &outcomes)).await.unwrap();
    sink.send(watched(Bytes::from_static(b"small"), "small", &outcomes)).await.unwrap();
    sink.close().await.unwrap();

    let Outcome::Failed(failure) = seen.recv().unwrap() else { panic!("the large one must fail") };
    assert_eq!(failure.code(), "reply_too_large");
    assert!(failure.message().contains(&replies), "{failure}");
    assert_eq!(seen.recv().unwrap(), Outcome::Done);
    assert_eq!(broker.read(&replies, 1)[0].value.as_deref(), Some(&b"small"[..]));
}

#[tokio::test]
async fn a_reply_that_the_brokers_refuse_fails_its_own_receipt_only() {
    let broker = Broker::start();
    if broker.embedded.is_some() {
        eprintln!("skipped: the embedded broker refuses nothing");
        return;
    }
    let replies = broker.topic(1).await;
    let mut config = SinkConfig::new(&broker.servers, &replies);
    // The client's limit is above that of the topic.
    config.options.insert("message.max.bytes".into(), "10000000".into());
    let mut sink = Sink::connect(config).await.unwrap();
    let (outcomes, seen) = mpsc::channel();
    sink.send(watched(Bytes::from(vec![0; 2_000_000]), "large", &outcomes)).await.unwrap();
    sink.close().await.unwrap();
    sink.send(watched(Bytes::from_static(b"small"), "small", &outcomes)).await.unwrap();
    sink.close().await.unwrap();

    let Outcome::Failed(failure) = seen.recv().unwrap() else { panic!("the large one must fail") };
    assert_eq!(failure.code(), "reply_too_large");
    assert_eq!(seen.recv().unwrap(), Outcome::Done);
}

#[tokio::test]
async fn a_reply_that_is_not_confirmed_in_time_fails() {
    let mut broker = Broker::start();
    if broker.embedded.is_none() {
        eprintln!("skipped: the test stops its broker, which only works with the embedded one");
        return;
    }
    let replies = broker.topic(1).await;
    let mut config = SinkConfig::new(&broker.servers, &replies);
    config.delivery_timeout = Duration::from_secs(1);
    let mut sink = Sink::connect(config).await.unwrap();
    broker.embedded = None;
    let (outcomes, seen) = mpsc::channel();
    sink.send(watched(Bytes::from_static(b"x"), "key", &outcomes)).await.unwrap();
    sink.close().await.unwrap();
    let Outcome::Failed(failure) = seen.recv().unwrap() else { panic!("nobody confirmed it") };
    assert_eq!(failure.code(), "delivery_failed");
}

#[tokio::test]
async fn replies_keep_their_order_when_the_queue_is_full() {
    const QUEUE: usize = 5;
    const COUNT: u32 = 2000;
    let broker = Broker::start();
    let replies = broker.topic(1).await;
    let mut config = SinkConfig::new(&broker.servers, &replies);
    config.options.insert("queue.buffering.max.messages".into(), QUEUE.to_string());
    let mut sink = Sink::connect(config).await.unwrap();
    let (outcomes, seen) = mpsc::channel();
    let mut most = 0;
    for n in 0..COUNT {
        sink.send(watched(n.to_string().into(), "key", &outcomes)).await.unwrap();
        most = most.max(sink.in_flight());
    }
    sink.close().await.unwrap();

    assert!(
        (QUEUE - 1..=2 * QUEUE).contains(&most),
        "the queue was never full, or never bounded: {most}"
    );
    assert!(seen.try_iter().all(|outcome| outcome == Outcome::Done));
    let written = broker.read(&replies, COUNT as usize).into_iter().map(|record| record.value);
    assert!(written.eq((0..COUNT).map(|n| Some(n.to_string().into()))));
}

#[tokio::test]
async fn a_sink_that_is_dropped_abandons_replies_that_were_not_delivered() {
    let broker = Broker::start();
    let replies = broker.topic(1).await;
    let mut config = SinkConfig::new(&broker.servers, &replies);
    config.options.insert("linger.ms".into(), "30000".into());
    let mut sink = Sink::connect(config).await.unwrap();
    let (outcomes, seen) = mpsc::channel();
    sink.send(watched(Bytes::from_static(b"x"), "key", &outcomes)).await.unwrap();
    drop(sink);
    assert_eq!(seen.recv().unwrap(), Outcome::Abandoned);
}

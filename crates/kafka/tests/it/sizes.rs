//! How large requests and replies may be, and how they may be compressed.

use std::sync::mpsc;

use bytes::Bytes;
use forebay_kafka::{Reply, Sink, SinkConfig};
use forebay_stream::{Event, Meta, Outcome, Receipt, Sink as _};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::support::{Broker, PATIENCE, next, start, unique};

/// Sends values as replies and returns the code of each failure, or the name of any other outcome.
async fn outcomes(config: SinkConfig, values: impl IntoIterator<Item = Bytes>) -> Vec<String> {
    let mut sink = Sink::connect(config).await.unwrap();
    let (settled, seen) = mpsc::channel();
    for (number, value) in values.into_iter().enumerate() {
        let settled = settled.clone();
        let receipt = Receipt::new(move |outcome| settled.send((number, outcome)).unwrap());
        let value = Reply { value: Some(value), ..Reply::default() };
        let meta = Meta { key: Some("key".into()), ..Meta::default() };
        sink.send(Event { value, meta: meta.into(), receipt }).await.unwrap();
    }
    sink.close().await.unwrap();
    let mut outcomes: Vec<_> = seen.try_iter().collect();
    outcomes.sort_by_key(|(number, _)| *number);
    let code = |(_, outcome)| match outcome {
        Outcome::Failed(failure) => failure.code().to_owned(),
        outcome => format!("{outcome:?}").to_lowercase(),
    };
    outcomes.into_iter().map(code).collect()
}

fn bytes(count: usize) -> Bytes {
    Bytes::from(vec![b'x'; count])
}

#[tokio::test]
async fn a_reply_that_is_too_large_for_its_topic_does_not_fail_the_others() {
    let broker = Broker::start();
    let Some(topic) = broker.topic_with(&[("max.message.bytes", "10000")]).await else { return };
    let mut config = SinkConfig::new(&broker.servers, &topic);
    // Makes librdkafka wait until all replies are queued, so that they share batches.
    config.options.insert("linger.ms".into(), "200".into());
    let values = (0..200).map(|number| bytes(if number % 50 == 7 { 20_000 } else { 1000 }));
    let expected = (0..200).map(|number| if number % 50 == 7 { "reply_too_large" } else { "done" });
    assert_eq!(outcomes(config, values).await, expected.collect::<Vec<_>>());
    assert!(broker.read(&topic, 196).iter().all(|record| record.value == Some(bytes(1000))));
}

#[tokio::test]
async fn requests_and_replies_may_be_larger_than_the_default_limits_of_clients() {
    const LARGE: usize = 5 << 20;
    let broker = Broker::start();
    let settings = [("max.message.bytes", "8388608")];
    let Some(requests) = broker.topic_with(&settings).await else { return };
    let Some(replies) = broker.topic_with(&settings).await else { return };
    let mut config = SinkConfig::new(&broker.servers, &requests);
    config.options.insert("message.max.bytes".into(), "8388608".into());
    assert_eq!(outcomes(config.clone(), [bytes(LARGE), bytes(1)]).await, ["done", "done"]);

    let (mut events, handle) = start(broker.source(&requests, &unique("group"))).await;
    config.topic.clone_from(&replies);
    let mut sink = Sink::connect(config).await.unwrap();
    for size in [LARGE, 1] {
        let event = next(&mut events).await;
        assert_eq!(event.value.as_ref().map(Bytes::len), Some(size));
        sink.send(event.map(|value| Reply { value, ..Reply::default() })).await.unwrap();
    }
    sink.close().await.unwrap();
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
    let written = broker.read(&replies, 2).into_iter().map(|record| record.value.unwrap());
    assert!(written.eq([bytes(LARGE), bytes(1)]));
}

#[tokio::test]
async fn every_compression_codec_is_written_and_read() {
    // Neither topic accepts the value unless it is compressed.
    let value = bytes(200_000);
    let broker = Broker::start();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let settings = [("max.message.bytes", "20000")];
        let Some(requests) = broker.topic_with(&settings).await else { return };
        let Some(replies) = broker.topic_with(&settings).await else { return };
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &broker.servers)
            .set("compression.type", codec)
            .create()
            .unwrap();
        let record = FutureRecord::<[u8], _>::to(&requests).payload(&*value);
        producer.send(record, PATIENCE).await.unwrap();

        let (mut events, handle) = start(broker.source(&requests, &unique("group"))).await;
        let mut config = SinkConfig::new(&broker.servers, &replies);
        config.options.insert("compression.type".into(), codec.into());
        let mut sink = Sink::connect(config).await.unwrap();
        let event = next(&mut events).await;
        assert_eq!(event.value.as_ref(), Some(&value), "{codec}");
        sink.send(event.map(|value| Reply { value, ..Reply::default() })).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0, "{codec}");
        assert_eq!(broker.read(&replies, 1)[0].value.as_ref(), Some(&value), "{codec}");
    }
    let Some(plain) = broker.topic_with(&[("max.message.bytes", "20000")]).await else { return };
    let config = SinkConfig::new(&broker.servers, &plain);
    assert_eq!(
        outcomes(config, [value]).await,
        ["reply_too_large"],
        "without compression the value does not fit"
    );
}

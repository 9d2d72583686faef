//! Error messages for configurations that do not fit the brokers.

use std::time::Duration;

use forebay_kafka::{Error, Sink, SinkConfig, Source, SourceConfig};
use tokio::time::Instant;

use crate::support::{Broker, unique};

#[tokio::test]
async fn connecting_fails_within_seconds_if_no_broker_answers() {
    let before = Instant::now();
    let error =
        Source::connect(SourceConfig::new("127.0.0.1:1", "requests", "group")).await.unwrap_err();
    assert!(before.elapsed() < Duration::from_secs(15), "took {:?}", before.elapsed());
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.starts_with("no broker answered at 127.0.0.1:1 within 10s"), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn the_error_names_the_topic_that_does_not_exist() {
    let broker = Broker::start();
    let topic = unique("missing");
    let source = Source::connect(broker.source(&topic, "group")).await.unwrap_err();
    let sink = Sink::connect(SinkConfig::new(&broker.servers, &topic)).await.unwrap_err();
    for error in [source, sink] {
        assert!(matches!(&error, Error::NoSuchTopic { topic: missing, .. } if *missing == topic));
        assert!(error.to_string().contains("create it, or correct the name"), "{error}");
    }
}

#[tokio::test]
async fn the_error_names_the_option_that_librdkafka_does_not_know() {
    let mut config = SinkConfig::new("127.0.0.1:1", "replies");
    config.options.insert("lingr.ms".into(), "5".into());
    let error = anyhow::Error::from(Sink::connect(config).await.unwrap_err());
    let text = format!("{error:#}");
    assert!(text.starts_with("librdkafka rejected the client configuration: "), "{text}");
    assert!(text.contains("lingr.ms"), "{text}");
}

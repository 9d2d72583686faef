//! Answers every request with its own value, and prints the throughput: `cargo run --release
//! --example echo [COUNT]`.
//!
//! Uses the brokers in `KAFKA_BROKERS`, otherwise the embedded one, and creates new topics.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use forebay_kafka::{EmbeddedBroker, Reply, Sink, SinkConfig, Source, SourceConfig, create_topics};
use forebay_stream::{Event, Flow, Header, Meta, Receipt, Sink as _};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 4;
const VALUE: &[u8] = br#"{"text": "a request of about one hundred bytes, as a sentence to classify would be, more or less"}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let requests = name("requests");
    let replies = name("replies");
    let topics = [(requests.as_str(), PARTITIONS), (replies.as_str(), PARTITIONS)];
    // Kept until the end, because the embedded broker lives as long as its value.
    let embedded = match std::env::var("KAFKA_BROKERS") {
        Ok(brokers) => {
            create_topics(&brokers, &topics).await?;
            Err(brokers)
        }
        Err(_) => Ok(EmbeddedBroker::start(&topics)?),
    };
    let brokers = embedded.as_ref().map_or_else(Clone::clone, EmbeddedBroker::bootstrap_servers);

    let started = Instant::now();
    write(&brokers, &requests, count).await?;
    report("written", count, started);

    let started = Instant::now();
    echo(&brokers, &requests, &replies, count).await?;
    report("echoed and committed", count, started);
    Ok(())
}

async fn write(brokers: &str, topic: &str, count: usize) -> anyhow::Result<()> {
    let mut sink = Sink::connect(SinkConfig::new(brokers, topic)).await?;
    for n in 0..count {
        let headers = vec![Header {
            name: "kafka_correlationId".to_owned(),
            value: Some(Bytes::copy_from_slice(&n.to_be_bytes())),
        }];
        let meta = Meta { key: Some(n.to_string().into()), headers, ..Meta::default() };
        let value = Reply { value: Some(Bytes::from_static(VALUE)), ..Reply::default() };
        sink.send(Event { value, meta: meta.into(), receipt: Receipt::detached() }).await?;
    }
    sink.close().await?;
    Ok(())
}

async fn echo(brokers: &str, requests: &str, replies: &str, count: usize) -> anyhow::Result<()> {
    let mut config = SourceConfig::new(brokers, requests, requests);
    if let Ok(bound) = std::env::var("MAX_IN_FLIGHT") {
        config.max_in_flight = bound.parse()?;
    }
    let source = Source::connect(config).await?;
    let sink = Sink::connect(SinkConfig::new(brokers, replies)).await?;
    let stop = CancellationToken::new();
    let (events, handle) = source.start(&stop)?;
    let limited = events.take(count);
    Flow::from_try_events("requests", limited)
        .map(|value| Reply { value, ..Reply::default() })
        .sink("replies", sink)
        .run()
        .await?;
    let report = handle.close(Duration::from_secs(10)).await.context("closing")?;
    anyhow::ensure!(report.unresolved == 0, "{report:?}");
    Ok(())
}

fn report(what: &str, count: usize, started: Instant) {
    let elapsed = started.elapsed();
    let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    println!("{count} {what} in {elapsed:.2?}: {rate:.0} records/s");
}

fn name(topic: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("echo-{topic}-{}", now.map_or(0, |now| now.as_millis()))
}

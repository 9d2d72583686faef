//! Kafka as a source and a sink of events: consumer groups with offset tracking, keyed and
//! confirmed replies.
//!
//! A [`Source`] yields events whose receipts commit offsets; a [`Sink`] settles receipts when the
//! brokers have confirmed a reply. A pipeline puts steps between them, which turn requests into
//! replies. This example has none: it replies to a request with the request's own value:
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use forebay_kafka::{EmbeddedBroker, Reply, Sink, SinkConfig, Source, SourceConfig};
//! use forebay_stream::{Event, Sink as _};
//! use futures::StreamExt as _;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), forebay_kafka::Error> {
//! let broker = EmbeddedBroker::start(&[("requests", 1), ("replies", 1)])?;
//! let brokers = broker.bootstrap_servers();
//!
//! let mut client = Sink::connect(SinkConfig::new(&brokers, "requests")).await?;
//! let request = Reply { value: Some(Bytes::from("hello")), ..Reply::default() };
//! client.send(Event::detached(request)).await?;
//! client.close().await?;
//!
//! let source = Source::connect(SourceConfig::new(&brokers, "requests", "echo")).await?;
//! let mut sink = Sink::connect(SinkConfig::new(&brokers, "replies")).await?;
//! let (events, handle) = source.start(&CancellationToken::new())?;
//! let event = Box::pin(events).next().await.expect("one request")?;
//! sink.send(event.map(|value| Reply { value, ..Reply::default() })).await?;
//! sink.close().await?;
//!
//! assert_eq!(handle.close(Duration::from_secs(5)).await?.unresolved, 0);
//! # Ok(())
//! # }
//! ```

mod admin;
pub mod client;
pub mod codes;
mod config;
mod connections;
mod dead_letter;
mod drop_headers;
mod embedded;
mod error;
mod log;
mod native;
mod options;
mod probe;
mod reply_to;
mod requester;
mod sink;
mod source;
mod transactional_sink;

pub use admin::create_topics;
pub use config::{Delivery, OnUnanswered, SinkConfig, SourceConfig, TransactionSettings};
pub use dead_letter::DeadLetter;
pub use drop_headers::DropHeaders;
pub use embedded::EmbeddedBroker;
pub use error::{ClientError, Error, Stuck};
pub use options::Options;
pub use reply_to::{ReplyTo, ReplyTopics};
pub use requester::{CORRELATION_ID, Requester, Response};
pub use sink::{Reply, ReplyKind, Sink};
pub use source::{
    CloseReport, CommittedOffset, CommittedOffsets, Oldest, Source, SourceHandle, SourceItem, Stats,
};
pub use transactional_sink::TransactionalSink;

//! Kafka as a source and a sink of events: consumer groups with offset tracking, keyed and confirmed replies.

mod admin;
mod config;
mod embedded;
mod error;
mod log;
mod native;
mod probe;
mod sink;
mod source;

pub use admin::create_topics;
pub use config::{Options, SinkConfig, SourceConfig};
pub use embedded::EmbeddedBroker;
pub use error::{ClientError, Error};
pub use sink::{Reply, Sink};
pub use source::{CloseReport, Oldest, Source, SourceHandle, SourceItem, Stats};

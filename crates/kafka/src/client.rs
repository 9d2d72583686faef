//! Clients of librdkafka with Forebay's settings, for crates that use a topic in another way than
//! [`Source`](crate::Source) and [`Sink`](crate::Sink) do.
//!
//! [`SourceConfig::client`](crate::SourceConfig::client) and
//! [`SinkConfig::client`](crate::SinkConfig::client) return the settings. These functions and
//! settings have types of the crate `rdkafka`, which this crate takes from the same version.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

pub use crate::native::{commit_at, headers, metadata};
pub use crate::probe::check_topic;
pub use crate::sink::batches::fit as fit_batches;

/// The context of a client that forwards librdkafka's log lines and errors to `tracing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        crate::log::error(&error, reason);
    }
}

impl ConsumerContext for Log {}

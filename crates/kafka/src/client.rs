//! Clients of librdkafka with Forebay's settings, for crates that use a topic in another way than
//! [`Source`](crate::Source) and [`Sink`](crate::Sink) do.
//!
//! [`SourceConfig::client`](crate::SourceConfig::client) and
//! [`SinkConfig::client`](crate::SinkConfig::client) return the settings. These functions and
//! settings have types of the crate `rdkafka`, which this crate takes from the same version.

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::connections::Connections;

pub use crate::native::{commit_at, headers, metadata};
pub use crate::probe::check_topic;
pub use crate::sink::batches::fit as fit_batches;

/// The context of a client that forwards librdkafka's log lines and errors to `tracing`.
#[derive(Debug)]
pub struct Log(Connections);

impl Log {
    /// Returns the context for a client with these settings, and lets it report its connections.
    #[must_use]
    pub fn of(client: &mut ClientConfig) -> Self {
        Connections::report(client);
        Self(Connections::default())
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.0.update_from(json);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        crate::log::error(&error, reason);
    }
}

impl ConsumerContext for Log {}

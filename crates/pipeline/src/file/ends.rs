//! `[source.*]` and `[sink.*]`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// One of `[source.kafka]`, `[source.stdin]`, `[source.file]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum SourceTable {
    /// Reads a topic as a member of a consumer group.
    Kafka(KafkaSource),
    /// Reads JSON lines from standard input.
    Stdin(Empty),
    /// Reads JSON lines from a file.
    File(FileEnd),
}

/// One of `[sink.kafka]`, `[sink.stdout]`, `[sink.file]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum SinkTable {
    /// Writes keyed replies to a topic.
    Kafka(KafkaSink),
    /// Writes JSON lines to standard output.
    Stdout(Empty),
    /// Writes JSON lines to a file.
    File(FileEnd),
}

/// A table without keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// `[source.file]` and `[sink.file]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEnd {
    /// The file, one JSON value a line.
    pub(crate) path: PathBuf,
}

/// `[source.kafka]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSource {
    /// Bootstrap servers, `host:port`, separated by commas.
    pub(crate) brokers: String,
    /// The topic to read.
    pub(crate) topic: String,
    /// The consumer group under which offsets are committed.
    pub(crate) group: String,
    /// Most records read and not yet answered.
    pub(crate) max_in_flight: Option<NonZeroUsize>,
    /// How often offsets are committed.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) commit_interval: Option<Duration>,
    /// Longest wait for requests in flight when partitions are taken away.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) drain_timeout: Option<Duration>,
    /// librdkafka's own settings.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// `[sink.kafka]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSink {
    /// Bootstrap servers; the source's where it has some.
    pub(crate) brokers: Option<String>,
    /// The topic to write.
    pub(crate) topic: String,
    /// Longest wait for a reply's confirmation, retries included.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) delivery_timeout: Option<Duration>,
    /// librdkafka's own settings.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

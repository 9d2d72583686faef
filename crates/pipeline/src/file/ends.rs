//! The tables `[source.KIND]` and `[sink.KIND]`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Interval;

/// A table without keys: `[source.stdin]`, `[sink.stdout]`, `[sink.drop]`, `[sink.http]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// `[source.file]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSource {
    /// The file, one JSON value a line.
    pub(crate) path: PathBuf,
    /// Whether reading waits for more lines at the end of the file, as `tail -F` does.
    #[serde(default)]
    pub(crate) follow: bool,
}

/// `[sink.file]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSink {
    /// The file, one JSON value a line.
    pub(crate) path: PathBuf,
}

/// `[source.interval]`: the numbers 0, 1, 2 and so on, one in each interval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntervalSource {
    /// The interval.
    pub(crate) every: Interval,
    /// The number of values; without it the source never ends.
    pub(crate) count: Option<NonZeroU64>,
}

/// `[source.http]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSource {
    /// The address to listen at, `host:port`.
    pub(crate) listen: String,
    /// The path of requests.
    pub(crate) path: Option<String>,
    /// The largest request body, in bytes.
    pub(crate) max_body: Option<NonZeroUsize>,
    /// The most requests in flight.
    pub(crate) max_in_flight: Option<NonZeroUsize>,
}

/// `[source.kafka]`. Does not implement `Debug`, because `options` may hold secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSource {
    /// Bootstrap servers, `host:port`, separated by commas.
    pub(crate) brokers: String,
    /// The topic to read.
    pub(crate) topic: String,
    /// The consumer group under which offsets are committed.
    pub(crate) group: String,
    /// The most records in flight.
    pub(crate) max_in_flight: Option<NonZeroUsize>,
    /// The most bytes of records in flight.
    pub(crate) max_in_flight_bytes: Option<NonZeroUsize>,
    /// The most records that are read past a partition's position, the smallest offset that is not
    /// settled.
    pub(crate) max_uncommitted: Option<NonZeroUsize>,
    /// The time after which a record that has no answer yet is reported in the log.
    pub(crate) stuck_after: Option<Interval>,
    /// The interval between two commits of offsets.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) commit_interval: Option<Duration>,
    /// The longest time to finish the records in flight when a partition is revoked.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) drain_timeout: Option<Duration>,
    /// Settings of librdkafka.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// `[sink.kafka]`. Does not implement `Debug`, because `options` may hold secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSink {
    /// Bootstrap servers; by default those of the Kafka source.
    pub(crate) brokers: Option<String>,
    /// The topic to write.
    pub(crate) topic: String,
    /// The longest wait for the brokers to confirm a reply, including retries.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) delivery_timeout: Option<Duration>,
    /// The topics that a request may name for its reply, besides `topic`; `"*"` for all.
    #[serde(default)]
    pub(crate) reply_topics: BTreeSet<String>,
    /// The header with which a request names the topic for its reply.
    pub(crate) reply_topic_header: Option<String>,
    /// The header with which a request names the partition for its reply.
    pub(crate) reply_partition_header: Option<String>,
    /// The headers of a request that its reply does not get.
    pub(crate) drop_headers: Option<Vec<String>>,
    /// Settings of librdkafka.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

//! What `[source.KIND]` and `[sink.KIND]` may hold.

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
    /// Whether to wait at the end for more to be written, as `tail -F` does.
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

/// `[source.interval]`: 0, 1, 2 and so on, one at each beat.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntervalSource {
    /// The beat.
    pub(crate) every: Interval,
    /// How many there are; without it there is no end.
    pub(crate) count: Option<NonZeroU64>,
}

/// `[source.http]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSource {
    /// The address to listen at, `host:port`.
    pub(crate) listen: String,
    /// Where requests are sent to, with POST.
    pub(crate) path: Option<String>,
    /// Most bytes of one request.
    pub(crate) max_body: Option<NonZeroUsize>,
    /// Most requests taken and not yet answered.
    pub(crate) max_in_flight: Option<NonZeroUsize>,
}

/// `[source.kafka]`. Without `Debug`: its options may be secrets.
#[derive(Deserialize)]
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
    /// Most bytes of them.
    pub(crate) max_in_flight_bytes: Option<NonZeroUsize>,
    /// Most records of one partition read past its oldest unanswered one.
    pub(crate) max_uncommitted: Option<NonZeroUsize>,
    /// After how long a record without an answer is reported.
    pub(crate) stuck_after: Option<Interval>,
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

/// `[sink.kafka]`. Without `Debug`: its options may be secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSink {
    /// Bootstrap servers; the source's where it has some.
    pub(crate) brokers: Option<String>,
    /// The topic to write.
    pub(crate) topic: String,
    /// Longest wait for a reply's confirmation, retries included.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) delivery_timeout: Option<Duration>,
    /// Which topics a request may name for its reply, besides `topic`; `"*"` for all.
    #[serde(default)]
    pub(crate) reply_topics: BTreeSet<String>,
    /// The header with which a request names the topic for its reply.
    pub(crate) reply_topic_header: Option<String>,
    /// The header with which a request names the partition for its reply.
    pub(crate) reply_partition_header: Option<String>,
    /// librdkafka's own settings.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

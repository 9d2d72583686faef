//! `[source.kafka]`: a topic, read as a member of a consumer group.

use std::num::NonZeroUsize;
use std::time::Duration;

use forebay_kafka::{Source, SourceConfig, SourceHandle};
use forebay_stream::{Flow, Release};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use toml::Spanned;
use toml::de::DeValue;

use super::{Left, OpenSource, RunningSource, SourceControl, SourceEnd};
use crate::diagnostic::Problem;
use crate::error::RunError;
use crate::file::{Bytes, Count, Interval, OptionsTable, Placed, name_of, placed};
use crate::record::{Format, Record};

/// `[source.kafka]`. Does not implement `Debug`, because `options` may hold secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Bootstrap servers, `host:port`, separated by commas.
    brokers: String,
    /// The topic to read.
    topic: String,
    /// The consumer group under which offsets are committed.
    group: String,
    /// The most records in flight.
    max_in_flight: Option<Count>,
    /// The most bytes of records in flight.
    max_in_flight_bytes: Option<Bytes>,
    /// The most records that are read past a partition's position, the smallest offset that is not
    /// settled.
    max_uncommitted: Option<Count>,
    /// The time after which a record that has no answer yet is reported in the log.
    stuck_after: Option<Interval>,
    /// The time without progress after which the run ends.
    stuck_timeout: Option<Interval>,
    /// The interval between two commits of offsets.
    #[serde(default, with = "crate::file::duration::option")]
    commit_interval: Option<Duration>,
    /// The longest time to finish the records in flight when a partition is revoked.
    #[serde(default, with = "crate::file::duration::option")]
    drain_timeout: Option<Duration>,
    /// The name of the source of committed offsets.
    committed: Option<String>,
    /// The form of the values.
    #[serde(default)]
    format: Format,
    /// Settings of librdkafka.
    #[serde(default)]
    options: OptionsTable,
}

/// A topic, and the form of its records' values.
#[derive(Clone)]
pub(crate) struct KafkaSource {
    pub(crate) config: SourceConfig,
    format: Format,
    /// Whether the committed offsets are a source too.
    pub(crate) has_committed: bool,
}

/// Reads the name that a table `[source.kafka]` gives its committed offsets.
pub(crate) fn committed(settings: &DeValue<'_>) -> Result<Option<Spanned<String>>, Problem> {
    let name = settings.as_table().and_then(|table| table.get("committed"));
    name.cloned().map(name_of).transpose()
}

pub(crate) fn parse(settings: Spanned<DeValue<'_>>) -> Result<KafkaSource, Problem> {
    let Placed { value: table, places } = placed::<Table>(settings)?;
    let mut config = SourceConfig::new(table.brokers, table.topic, table.group);
    config.max_in_flight = table.max_in_flight.map_or(config.max_in_flight, Count::get);
    config.max_in_flight_bytes =
        table.max_in_flight_bytes.map_or(config.max_in_flight_bytes, Bytes::get);
    config.max_uncommitted = table.max_uncommitted.map_or(config.max_uncommitted, Count::get);
    config.stuck_after = table.stuck_after.map_or(config.stuck_after, |after| after.0);
    config.stuck_timeout = table.stuck_timeout.map(|timeout| timeout.0);
    config.commit_interval = table.commit_interval.unwrap_or(config.commit_interval);
    config.drain_timeout = table.drain_timeout;
    config.options = table.options.0.into();
    // A file that names the default is the same plan as one that does not. An error is left to the
    // config's own check.
    if let Ok(timeout) = config.drain_timeout() {
        config.drain_timeout = Some(timeout);
    }
    config.validate().map_err(|error| Problem::of(&error, &places))?;
    let has_committed = table.committed.is_some();
    Ok(KafkaSource { config, format: table.format, has_committed })
}

impl SourceEnd for KafkaSource {
    fn title(&self) -> String {
        format!("kafka: {}", self.config.topic)
    }

    fn format(&self) -> Format {
        self.format
    }

    fn has_headers(&self) -> bool {
        true
    }

    fn max_in_flight(&self) -> NonZeroUsize {
        self.config.max_in_flight
    }

    fn error_replies(&self) -> Option<Release> {
        Some(Release::AtOnce)
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        Box::pin(async {
            let source = Source::connect(self.config.clone()).await.map_err(RunError::Connect)?;
            Ok(OpenSource::Kafka { title: self.title(), source })
        })
    }
}

pub(super) fn start(
    title: String,
    source: Source,
    stop: &CancellationToken,
) -> Result<RunningSource, forebay_kafka::Error> {
    let (records, handle) = source.start(stop)?;
    let records = records.map(Record::from_item);
    Ok(RunningSource { records: Flow::from_try_events(title, records), control: Box::new(handle) })
}

impl SourceControl for SourceHandle {
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(SourceHandle::ready(self))
    }

    fn stuck(&self) -> BoxFuture<'static, RunError> {
        let stuck = SourceHandle::stuck(self);
        Box::pin(async { RunError::Stuck(stuck.await) })
    }

    fn close(self: Box<Self>, patience: Duration) -> BoxFuture<'static, Result<Left, RunError>> {
        Box::pin(async move {
            let report = SourceHandle::close(*self, patience).await.map_err(RunError::Close)?;
            Ok(Left { unresolved: report.unresolved + report.held, ..Left::default() })
        })
    }
}

//! Turns the source and sink tables of a pipeline file into plans, and refuses combinations that
//! cannot work.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use forebay_kafka::{DropHeaders, Options, ReplyTo, ReplyTopics, SinkConfig, SourceConfig};

use super::{SinkEnd, SourcePlan};
use crate::diagnostic::{Problem, chain};
use crate::file::{
    self, Empty, Entry, FileSink, FileSource, HttpSource, IntervalSource, KafkaSink, KafkaSource,
};
use crate::registry::Registry;

const SOURCES: [&str; 5] = ["file", "http", "interval", "kafka", "stdin"];
const SINKS: [&str; 5] = ["drop", "file", "http", "kafka", "stdout"];

pub(super) fn source(entry: Entry<'_>, registry: &Registry) -> Result<SourcePlan, Problem> {
    let Entry { key, settings, span, .. } = entry;
    Ok(match key.get_ref().as_str() {
        "kafka" => {
            let config = kafka_source(file::value(settings)?);
            config.validate().map_err(|error| Problem::new(chain(&error), span))?;
            SourcePlan::Kafka(config)
        }
        "stdin" => {
            let Empty {} = file::value(settings)?;
            SourcePlan::Stdin
        }
        "file" => {
            let FileSource { path, follow } = file::value(settings)?;
            SourcePlan::File { path, follow }
        }
        "interval" => {
            let IntervalSource { every, count } = file::value(settings)?;
            SourcePlan::Interval { every: every.0, count }
        }
        "http" => {
            let config = http_source(file::value(settings)?);
            config.validate().map_err(|error| Problem::new(chain(&error), span))?;
            SourcePlan::Http(config)
        }
        kind => {
            let Some(open) = registry.parse_source(kind, settings) else {
                let known = SOURCES.into_iter().chain(registry.sources());
                return Err(file::unknown("source", kind, key.span(), known));
            };
            SourcePlan::Custom { kind: kind.to_owned(), open: open? }
        }
    })
}

fn kafka_source(table: KafkaSource) -> SourceConfig {
    let mut config = SourceConfig::new(table.brokers, table.topic, table.group);
    config.max_in_flight = table.max_in_flight.unwrap_or(config.max_in_flight);
    config.max_in_flight_bytes = table.max_in_flight_bytes.unwrap_or(config.max_in_flight_bytes);
    config.max_uncommitted = table.max_uncommitted.unwrap_or(config.max_uncommitted);
    config.stuck_after = table.stuck_after.map_or(config.stuck_after, |after| after.0);
    config.commit_interval = table.commit_interval.unwrap_or(config.commit_interval);
    config.drain_timeout = table.drain_timeout.unwrap_or(config.drain_timeout);
    config.options = table.options.into();
    config
}

fn http_source(table: HttpSource) -> forebay_http::Config {
    let mut config = forebay_http::Config::new(table.listen);
    config.path = table.path.unwrap_or(config.path);
    config.max_body = table.max_body.map_or(config.max_body, NonZeroUsize::get);
    config.max_in_flight = table.max_in_flight.unwrap_or(config.max_in_flight);
    config
}

pub(super) fn sink(
    entry: Entry<'_>,
    sources: &[SourcePlan],
    registry: &Registry,
) -> Result<SinkEnd, Problem> {
    let Entry { key, settings, span, .. } = entry;
    Ok(match key.get_ref().as_str() {
        "kafka" => {
            let config = kafka_sink(file::value(settings)?, sources);
            let config = config.map_err(|problem| problem.at(span.clone()))?;
            config.validate().map_err(|error| Problem::new(chain(&error), span))?;
            SinkEnd::Kafka(config)
        }
        "stdout" => {
            let Empty {} = file::value(settings)?;
            SinkEnd::Stdout
        }
        "file" => {
            let FileSink { path } = file::value(settings)?;
            let path = output_path(path, sources).map_err(|problem| problem.at(span))?;
            SinkEnd::File(path)
        }
        "http" => {
            let Empty {} = file::value(settings)?;
            if !sources.iter().any(|source| matches!(source, SourcePlan::Http(_))) {
                let problem = Problem::new(
                    "the HTTP sink needs an HTTP source: it answers that source's requests",
                    span,
                );
                return Err(problem.help("add `[source.http]` with the address to listen at"));
            }
            SinkEnd::Http
        }
        "drop" => {
            let Empty {} = file::value(settings)?;
            SinkEnd::Drop
        }
        kind => {
            let Some(open) = registry.parse_sink(kind, settings) else {
                let known = SINKS.into_iter().chain(registry.sinks());
                return Err(file::unknown("sink", kind, key.span(), known));
            };
            SinkEnd::Custom { kind: kind.to_owned(), open: open? }
        }
    })
}

/// Refuses a sink's file that a source reads, because the sink would empty the file, or append
/// answers that the source reads as requests.
fn output_path(path: PathBuf, sources: &[SourcePlan]) -> Result<PathBuf, Problem> {
    let same = |read: &Path| match (read.canonicalize(), path.canonicalize()) {
        (Ok(read), Ok(written)) => read == written,
        _ => read == path,
    };
    let read = |source: &SourcePlan| matches!(source, SourcePlan::File { path, .. } if same(path));
    if sources.iter().any(read) {
        return Err(Problem::anywhere("the sink writes the file that the source reads"));
    }
    Ok(path)
}

/// Returns the Kafka sources.
pub(super) fn kafka_sources(sources: &[SourcePlan]) -> impl Iterator<Item = &SourceConfig> + Clone {
    sources.iter().filter_map(|source| match source {
        SourcePlan::Kafka(config) => Some(config),
        _ => None,
    })
}

/// Returns the brokers and the librdkafka options for a topic that the pipeline writes to.
///
/// If `brokers` is missing, uses the brokers of the first Kafka source and adds its connection
/// options, except those that `options` sets. If `brokers` is given, nothing is inherited.
pub(super) fn connection(
    brokers: Option<String>,
    options: BTreeMap<String, String>,
    sources: &[SourcePlan],
) -> Result<(String, Options), Problem> {
    let mut options = Options::from(options);
    match (brokers, kafka_sources(sources).next()) {
        (Some(brokers), _) => Ok((brokers, options)),
        (None, Some(source)) => {
            let inherited =
                source.options.iter().filter(|(option, _)| is_connection_option(option));
            for (option, value) in inherited {
                options.entry(option.clone()).or_insert_with(|| value.clone());
            }
            Ok((source.brokers.clone(), options))
        }
        (None, None) => Err(Problem::anywhere("missing field `brokers`")
            .help("`brokers` may be left out only if a source is Kafka too")),
    }
}

fn kafka_sink(table: KafkaSink, sources: &[SourcePlan]) -> Result<SinkConfig, Problem> {
    let mut read = kafka_sources(sources);
    let (brokers, options) = connection(table.brokers, table.options, sources)?;
    let mut config = SinkConfig::new(brokers, table.topic);
    config.delivery_timeout = table.delivery_timeout.unwrap_or(config.delivery_timeout);
    config.reply_to = ReplyTo {
        topics: if table.reply_topics.contains("*") {
            ReplyTopics::Any
        } else {
            ReplyTopics::Listed(table.reply_topics)
        },
        topic_header: table.reply_topic_header.unwrap_or(config.reply_to.topic_header),
        partition_header: table.reply_partition_header.unwrap_or(config.reply_to.partition_header),
        // A request must not send its reply to a topic that a source reads. A topic of that name is
        // refused on every cluster: comparing brokers could miss a match, because one cluster can
        // have many addresses.
        never: read.clone().map(|read| read.topic.clone()).collect(),
    };
    config.drop_headers = table.drop_headers.map_or(config.drop_headers, DropHeaders::new);
    config.options = options;
    // Brokers are compared here, because the sink may write to a topic of the same name on another
    // cluster.
    if read.any(|read| read.brokers == config.brokers && read.topic == config.topic) {
        return Err(Problem::anywhere("the sink writes the topic that the source reads")
            .help("replies would be read as requests; give replies their own topic"));
    }
    Ok(config)
}

/// Returns whether an option configures the connection to the brokers. A sink that takes over a
/// source's brokers takes over these options too.
pub(super) fn is_connection_option(option: &str) -> bool {
    option.starts_with("sasl.")
        || option.starts_with("ssl.")
        || ["security.protocol", "enable.ssl.certificate.verification"].contains(&option)
}

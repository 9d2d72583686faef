//! `[sink.kafka]`: a topic. Replies carry the keys of their requests.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay_kafka::{
    DropHeaders, Options, Reply, ReplyKind, ReplyTo, ReplyTopics, Sink, SinkConfig,
};
use futures::future::BoxFuture;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::diagnostic::Problem;
use crate::error::RunError;
use crate::file::{OptionsTable, Placed, placed};
use crate::source::AnySource;

/// `[sink.kafka]`. Does not implement `Debug`, because `options` may hold secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Bootstrap servers; by default those of the Kafka source.
    brokers: Option<String>,
    /// The topic to write.
    topic: String,
    /// The longest wait for the brokers to confirm a reply, including retries.
    #[serde(default, with = "crate::file::duration::option")]
    delivery_timeout: Option<Duration>,
    /// The topics that a request may name for its reply, besides `topic`; `"*"` for all.
    #[serde(default)]
    reply_topics: BTreeSet<String>,
    /// The header with which a request names the topic for its reply.
    reply_topic_header: Option<String>,
    /// The header with which a request names the partition for its reply.
    reply_partition_header: Option<String>,
    /// The headers of a request that its reply does not get.
    drop_headers: Option<Vec<String>>,
    /// Settings of librdkafka.
    #[serde(default)]
    options: OptionsTable,
}

pub(crate) fn parse(
    settings: Spanned<DeValue<'_>>,
    sources: &[AnySource],
) -> Result<SinkConfig, Problem> {
    let Placed { value: table, places } = placed(settings)?;
    let config = config(table, sources);
    let config = config.map_err(|problem| problem.at(places.table.clone()))?;
    config.validate().map_err(|error| Problem::of(&error, &places))?;
    Ok(config)
}

fn config(table: Table, sources: &[AnySource]) -> Result<SinkConfig, Problem> {
    let mut read = sources.iter().filter_map(AnySource::kafka);
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

/// Returns the brokers and the librdkafka options for a topic that the pipeline writes to.
///
/// If `brokers` is missing, uses the brokers of the first Kafka source and adds its connection
/// options, except those that `options` sets. If `brokers` is given, nothing is inherited.
pub(crate) fn connection(
    brokers: Option<String>,
    options: OptionsTable,
    sources: &[AnySource],
) -> Result<(String, Options), Problem> {
    let mut options = Options::from(options.0);
    match (brokers, sources.iter().find_map(AnySource::kafka)) {
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

/// Returns whether an option configures the connection to the brokers. A sink that takes over a
/// source's brokers takes over these options too.
pub(crate) fn is_connection_option(option: &str) -> bool {
    option.starts_with("sasl.")
        || option.starts_with("ssl.")
        || ["security.protocol", "enable.ssl.certificate.verification"].contains(&option)
}

fn is_error(reply: &Reply) -> bool {
    reply.kind == ReplyKind::Error
}

impl SinkEnd for SinkConfig {
    fn title(&self) -> String {
        format!("kafka: {}", self.topic)
    }

    fn open<'a>(
        &'a self,
        sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        Box::pin(async {
            let title = self.title();
            let config = self.clone();
            let attach: AttachSink = if let Some(source) = sources.exactly_once() {
                let sink = source.sink(config).await.map_err(RunError::Connect)?;
                Box::new(|answers, counts| {
                    let sink = counts.delivered_by(sink, is_error);
                    answers.named("reply").map(Into::into).sink(title, sink)
                })
            } else {
                let sink = Sink::connect(config).await.map_err(RunError::Connect)?;
                Box::new(|answers, counts| {
                    let sink = counts.delivered_by(sink, is_error);
                    answers.named("reply").map(Into::into).sink(title, sink)
                })
            };
            Ok(attach)
        })
    }
}

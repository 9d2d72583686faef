//! `ReplayConfig`: which dead letters are read, and where their requests go.

use forebay_kafka::{SinkConfig, SourceConfig};
use forebay_pipeline::{ConfigError, DeadLetters, Plan};

/// Settings of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayConfig {
    /// The topic of the dead letters, and the group under whose name the progress is committed. No
    /// other consumer may be in that group.
    pub letters: SourceConfig,
    /// The destination of the requests.
    pub to: ReplayTo,
    /// Whether to also read letters that were replayed before.
    pub from_beginning: bool,
}

/// The destination of the requests of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayTo {
    /// The topic and partition that each request came from, if the topic is one of these.
    Origins(Vec<SinkConfig>),
    /// This topic, in the partition of the request's key.
    Topic(SinkConfig),
}

impl ReplayConfig {
    /// Returns the settings for replaying the dead letters of a pipeline, to the topics that it
    /// reads or to the topic `to`. Progress is committed under the consumer group `group`, by
    /// default the source's group with the suffix `-replay`.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::NoDeadLetters`] if the pipeline keeps no dead letters.
    pub fn of(plan: &Plan, group: Option<&str>, to: Option<&str>) -> Result<Self, ConfigError> {
        let DeadLetters { letters, mut requests, .. } = plan.dead_letters(group)?;
        let to = match to {
            Some(topic) => {
                ReplayTo::Topic(SinkConfig { topic: topic.to_owned(), ..requests.swap_remove(0) })
            }
            None => ReplayTo::Origins(requests),
        };
        Ok(Self { letters, to, from_beginning: false })
    }
}

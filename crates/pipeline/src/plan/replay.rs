//! Resolves how a plan's dead letters are replayed.

use forebay_kafka::{ReplayConfig, ReplayTo, SinkConfig, SourceConfig};

use super::{Plan, Policy};
use crate::diagnostic::ConfigError;
use crate::sink::is_connection_option;

impl Plan {
    /// Returns the settings for replaying the dead letters of this pipeline, to the topics that it
    /// reads or to the topic `to`. Progress is committed under the consumer group `group`, by
    /// default the source's group with the suffix `-replay`.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::NoDeadLetters`] if the pipeline keeps no dead letters.
    pub fn replay(
        &self,
        group: Option<&str>,
        to: Option<&str>,
    ) -> Result<ReplayConfig, ConfigError> {
        let (Policy::DeadLetter { sink, .. }, Some(source)) =
            (&self.on_failure.policy, self.kafka_sources().next())
        else {
            return Err(ConfigError::NoDeadLetters);
        };
        let group = group.map_or_else(|| format!("{}-replay", source.group), str::to_owned);
        let mut letters = SourceConfig::new(&sink.brokers, &sink.topic, group);
        if source.brokers == sink.brokers {
            letters.options = source.options.clone();
        } else {
            let inherited = sink.options.iter().filter(|(option, _)| is_connection_option(option));
            let inherited = inherited.map(|(option, value)| (option.clone(), value.clone()));
            letters.options.extend(inherited);
        }
        let to = match to {
            Some(topic) => ReplayTo::Topic(write(topic, source, sink)),
            None => ReplayTo::Origins(
                self.kafka_sources().map(|source| write(&source.topic, source, sink)).collect(),
            ),
        };
        Ok(ReplayConfig { letters, to, from_beginning: false })
    }
}

/// Returns the settings for writing a topic at the brokers of `source`. If the dead letters are at
/// the same brokers, the topic is written with their options, otherwise with the connection options
/// of the source.
fn write(topic: &str, source: &SourceConfig, letters: &SinkConfig) -> SinkConfig {
    let mut config = SinkConfig::new(&source.brokers, topic);
    config.delivery_timeout = letters.delivery_timeout;
    if source.brokers == letters.brokers {
        config.options = letters.options.clone();
    } else {
        let inherited = source.options.iter().filter(|(option, _)| is_connection_option(option));
        config.options.extend(inherited.map(|(option, value)| (option.clone(), value.clone())));
    }
    config
}

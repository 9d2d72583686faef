//! `DeadLetters`: where a plan's dead letters are, and the topics that their requests came from.

use forebay_kafka::{SinkConfig, SourceConfig};

use super::{Plan, Policy};
use crate::diagnostic::ConfigError;
use crate::sink::is_connection_option;

/// Settings for reading the dead letters of a pipeline and writing their requests again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetters {
    /// Reads the topic of the dead letters.
    pub letters: SourceConfig,
    /// Write the topics that the pipeline reads. There is at least one.
    pub requests: Vec<SinkConfig>,
}

impl Plan {
    /// Returns the settings for reading the dead letters of this pipeline under the consumer group
    /// `group`, by default the source's group with the suffix `-replay`, and for writing the topics
    /// that the pipeline reads.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::NoDeadLetters`] if the pipeline keeps no dead letters.
    pub fn dead_letters(&self, group: Option<&str>) -> Result<DeadLetters, ConfigError> {
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
        let requests = self.kafka_sources().map(|source| write(source, sink)).collect();
        Ok(DeadLetters { letters, requests })
    }
}

/// Returns the settings for writing the topic of `source`. If the dead letters are at the same
/// brokers, it is written with their options, otherwise with the connection options of the source.
fn write(source: &SourceConfig, letters: &SinkConfig) -> SinkConfig {
    let mut config = SinkConfig::new(&source.brokers, &source.topic);
    config.delivery_timeout = letters.delivery_timeout;
    if source.brokers == letters.brokers {
        config.options = letters.options.clone();
    } else {
        let inherited = source.options.iter().filter(|(option, _)| is_connection_option(option));
        config.options.extend(inherited.map(|(option, value)| (option.clone(), value.clone())));
    }
    config
}

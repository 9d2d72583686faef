//! How a plan's dead letters are replayed.

use forebay_kafka::{ReplayConfig, ReplayTo, SinkConfig, SourceConfig};

use super::ends::is_way_in;
use super::{Plan, Policy};
use crate::diagnostic::ConfigError;

impl Plan {
    /// How the dead letters of this pipeline are replayed: to the topics that it reads, or to the topic `to`. What was
    /// replayed is noted under the name `group`, else under that of its source's group and `-replay`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoDeadLetters`] where the pipeline keeps none.
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
            let way_in = sink.options.iter().filter(|(option, _)| is_way_in(option));
            let way_in = way_in.map(|(option, value)| (option.clone(), value.clone()));
            letters.options.extend(way_in);
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

/// How a topic is written at the brokers of `source`: as the dead letters were, where they are at the same brokers.
fn write(topic: &str, source: &SourceConfig, letters: &SinkConfig) -> SinkConfig {
    let mut config = SinkConfig::new(&source.brokers, topic);
    config.delivery_timeout = letters.delivery_timeout;
    if source.brokers == letters.brokers {
        config.options = letters.options.clone();
    } else {
        let way_in = source.options.iter().filter(|(option, _)| is_way_in(option));
        config.options.extend(way_in.map(|(option, value)| (option.clone(), value.clone())));
    }
    config
}

//! Replaces sources, sinks and brokers of a plan, as options of the command line ask for.

use forebay_kafka::EmbeddedBroker;

use super::{Plan, Policy};
use crate::diagnostic::ConfigError;
use crate::sink::{AnySink, Stdout};
use crate::source::{AnySource, Stdin};

impl Plan {
    /// Replaces the source by standard input, and every sink except `drop` by standard output.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Stdio`] if the plan has several sources, because standard input can
    /// be read by one only.
    pub fn on_stdio(mut self) -> Result<Self, ConfigError> {
        let count = self.sources.iter().filter(|source| !source.is_committed()).count();
        if count > 1 {
            return Err(ConfigError::Stdio { sources: count });
        }
        for source in &mut self.sources {
            match source {
                // Standard input commits nothing.
                AnySource::Committed(committed) => committed.of = None,
                source => *source = AnySource::Stdin(Stdin::default()),
            }
        }
        // Each line that fails gets an error reply in the output, because there is no topic for
        // dead letters.
        self.on_failure.policy = Policy::Reply;
        for sink in self.sinks.iter_mut().filter(|sink| !sink.sink.drops()) {
            sink.sink = AnySink::Stdout(Stdout {});
        }
        Ok(self)
    }

    /// Replaces the brokers of every Kafka source and sink, and of the dead letters.
    #[must_use]
    pub fn at_brokers(mut self, brokers: &str) -> Self {
        for source in self.sources.iter_mut().filter_map(AnySource::kafka_mut) {
            brokers.clone_into(&mut source.brokers);
        }
        for sink in &mut self.sinks {
            if let AnySink::Kafka(sink) = &mut sink.sink {
                brokers.clone_into(&mut sink.brokers);
            }
        }
        if let Policy::DeadLetter { sink, .. } = &mut self.on_failure.policy {
            brokers.clone_into(&mut sink.brokers);
        }
        self
    }

    /// Replaces the brokers of every Kafka source and sink by an embedded broker.
    #[must_use]
    pub fn at_embedded_broker(self, broker: &EmbeddedBroker) -> Self {
        let mut plan = self.at_brokers(&broker.bootstrap_servers());
        for source in plan.sources.iter_mut().filter_map(AnySource::kafka_mut) {
            source.options.extend(EmbeddedBroker::consumer_options());
        }
        plan
    }
}

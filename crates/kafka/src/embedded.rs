//! `EmbeddedBroker`: a Kafka broker in this process, in memory, for demos and tests.

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use crate::{Error, Options, native};

/// A broker in this process, to which any Kafka client on this machine can connect.
///
/// It is librdkafka's mock cluster: it keeps at most 5 MiB per partition, in memory, and has no
/// working transactions, topic administration, TLS or SASL. A consumer group forms at once. When a
/// member joins or leaves later, the rebalance takes almost the whole session timeout, so tests of
/// rebalances need a short `session.timeout.ms`. The broker lives as long as this value.
pub struct EmbeddedBroker {
    // The cluster belongs to this client, and ends with it.
    client: BaseProducer<DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts a broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    ///
    /// Returns an error if the broker cannot listen, or if a topic cannot be created.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, Error> {
        let client: BaseProducer<DefaultProducerContext> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .map_err(|error| Error::Configure(error.into()))?;
        native::join_groups_at_once(client.client());
        let broker = Self { client };
        for (topic, partitions) in topics {
            broker.create_topic(topic, *partitions)?;
        }
        Ok(broker)
    }

    /// Returns the address of the broker: `127.0.0.1` and a port.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster().map(|cluster| cluster.bootstrap_servers()).unwrap_or_default()
    }

    /// Returns the librdkafka options that consumers of this broker should set to get new records
    /// at once. If a fetch finds no record, the broker answers it only after `fetch.wait.max.ms`,
    /// even if a record arrives meanwhile; the options make that time short.
    #[must_use]
    pub fn consumer_options() -> Options {
        [("fetch.wait.max.ms".to_owned(), "1".to_owned())].into()
    }

    /// Adds a topic.
    ///
    /// # Errors
    ///
    /// Returns an error if the topic exists already.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        cluster
            .create_topic(topic, partitions, 1)
            .map_err(|error| Error::CreateTopic { topic: topic.to_owned(), source: error.into() })
    }

    fn cluster(&self) -> Option<MockCluster<'_, DefaultProducerContext>> {
        self.client.client().mock_cluster()
    }
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.bootstrap_servers()).finish()
    }
}

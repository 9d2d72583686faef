//! A broker for a test, with topics that only this test uses.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use forebay_kafka::{EmbeddedBroker, create_topics};

/// A broker with a topic of requests and a topic of replies that only one test uses.
pub(crate) struct Broker {
    pub(crate) address: String,
    pub(crate) requests: String,
    pub(crate) replies: String,
    pub(crate) group: String,
    // Keeps the embedded broker running as long as the test.
    embedded: Option<EmbeddedBroker>,
}

impl Broker {
    /// Connects to the cluster that `KAFKA_BROKERS` names, or starts an embedded broker.
    pub(crate) fn start(test: &str) -> Self {
        if let Ok(address) = std::env::var("KAFKA_BROKERS") {
            return Self::at(address, test);
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must test on a real Kafka: set KAFKA_BROKERS"
        );
        let mut broker = Self::named(String::new(), test);
        let topics = [(broker.requests.as_str(), 4), (broker.replies.as_str(), 4)];
        let embedded = EmbeddedBroker::start(&topics).unwrap();
        broker.address = embedded.bootstrap_servers();
        broker.embedded = Some(embedded);
        broker
    }

    /// Connects to this cluster.
    pub(crate) fn at(address: String, test: &str) -> Self {
        let broker = Self::named(address, test);
        broker.create(&broker.requests);
        broker.create(&broker.replies);
        broker
    }

    fn named(address: String, test: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let group = format!("{test}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let requests = format!("{group}-requests");
        let replies = format!("{group}-replies");
        Self { address, requests, replies, group, embedded: None }
    }

    /// Whether the broker has transactions. The embedded one has none; without them a test of
    /// exactly-once delivery prints that it is skipped.
    pub(crate) fn has_transactions(&self) -> bool {
        if self.embedded.is_some() {
            println!("skipped: exactly-once delivery needs a real Kafka, set KAFKA_BROKERS");
        }
        self.embedded.is_none()
    }

    /// Creates another topic, with four partitions, and returns its name.
    pub(crate) fn topic(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.group);
        self.create(&name);
        name
    }

    /// Creates a topic of exactly this name, with four partitions.
    pub(crate) fn create(&self, name: &str) {
        if let Some(embedded) = &self.embedded {
            embedded.create_topic(name, 4).unwrap();
        } else {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(create_topics(&self.address, &[(name, 4)])).unwrap();
        }
    }

    /// Returns the environment variables with which `config/sentiment.toml` uses this broker's
    /// topics and the CPU.
    pub(crate) fn variables(&self) -> [(&str, &str); 5] {
        [
            ("KAFKA_BROKERS", &self.address),
            ("REQUESTS_TOPIC", &self.requests),
            ("REPLIES_TOPIC", &self.replies),
            ("CONSUMER_GROUP", &self.group),
            ("DEVICE", "cpu"),
        ]
    }
}

//! `Topics`: asks the brokers about topics and caches the answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;

use crate::probe::Prober;

/// How long a topic's number of partitions is cached. Partitions that are added are noticed after
/// this time.
const FRESH: Duration = Duration::from_secs(30);
/// How long a refusal is cached. A topic that is created is noticed after this time.
const FRESH_REFUSAL: Duration = Duration::from_secs(2);

/// Maximum number of cached topics. A limit is needed because their names come from requests.
const MAX_TOPICS: usize = 1024;

/// The brokers' answer about a topic.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The topic exists, with this number of partitions.
    Partitions(i32),
    /// The topic does not exist, or this client may not use it.
    Refused(RDKafkaErrorCode),
    /// The brokers did not answer in time.
    NoAnswer(KafkaError),
}

/// Asks the brokers about topics and caches the answers for a while. Connects when it is first
/// asked; creates no topics.
pub(super) struct Topics {
    client: ClientConfig,
    prober: Option<Arc<Prober>>,
    patience: Duration,
    known: HashMap<Arc<str>, (Found, Instant)>,
}

impl Topics {
    pub(super) fn new(client: ClientConfig, patience: Duration) -> Self {
        Self { client, prober: None, patience, known: HashMap::new() }
    }

    pub(super) async fn find(&mut self, topic: &Arc<str>) -> Found {
        let known = self.known.get(topic);
        if let Some((found, until)) = known
            && Instant::now() < *until
        {
            return found.clone();
        }
        // If the brokers do not answer, the expired answer is used: a topic that existed most
        // likely still does.
        let before = known.map(|(found, _)| found.clone());
        let found = match (self.ask(topic).await, before) {
            (Found::NoAnswer(_), Some(before)) => before,
            (found, _) => found,
        };
        let fresh = match found {
            Found::Partitions(_) => FRESH,
            Found::Refused(_) => FRESH_REFUSAL,
            Found::NoAnswer(_) => return found,
        };
        if self.known.len() >= MAX_TOPICS {
            self.known.clear();
        }
        self.known.insert(Arc::clone(topic), (found.clone(), Instant::now() + fresh));
        found
    }

    async fn ask(&mut self, topic: &Arc<str>) -> Found {
        let prober = match &self.prober {
            Some(prober) => Arc::clone(prober),
            None => match Prober::new(self.client.clone()) {
                Ok(prober) => Arc::clone(self.prober.insert(Arc::new(prober))),
                Err(error) => return Found::NoAnswer(error),
            },
        };
        let topic = Arc::clone(topic);
        let patience = self.patience;
        let asked = tokio::task::spawn_blocking(move || prober.topic(&topic, patience));
        match asked.await {
            Ok(Ok(Ok(topic))) => Found::Partitions(topic.partitions),
            Ok(Ok(Err(code))) => Found::Refused(code),
            Ok(Err(error)) => Found::NoAnswer(error),
            Err(_) => Found::NoAnswer(KafkaError::Canceled),
        }
    }
}

//! Asks the brokers for a topic before anything is started, so that a wrong address or name is an error at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Error;

/// How long connecting waits for a broker to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that a broker of `config` answers within [`CONNECT_TIMEOUT`] and has `topic`.
pub(crate) async fn check_topic(config: ClientConfig, topic: String) -> Result<(), Error> {
    let asked = topic.clone();
    tokio::task::spawn_blocking(move || ask(config, &asked))
        .await
        .unwrap_or(Err(Error::ThreadEnded { topic }))
}

fn ask(config: ClientConfig, topic: &str) -> Result<(), Error> {
    let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
    let prober = Prober::new(config).map_err(|error| Error::Configure(error.into()))?;
    match prober.partitions(topic, CONNECT_TIMEOUT) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
            Err(Error::NoSuchTopic { brokers, topic: topic.to_owned() })
        }
        // A topic that has just been created; its leader comes.
        Ok(Err(RDKafkaErrorCode::LeaderNotAvailable)) => Ok(()),
        Ok(Err(code)) => {
            let source = KafkaError::MetadataFetch(code).into();
            Err(Error::Topic { brokers, topic: topic.to_owned(), source })
        }
        Err(error) => {
            let detail = last_words(&prober.0).unwrap_or_else(|| error.to_string());
            Err(Error::Unreachable { brokers, timeout: CONNECT_TIMEOUT, detail })
        }
    }
}

/// A client that asks for topics, joins no group, and does not create the topics that it asks for.
pub(crate) struct Prober(BaseConsumer<Probe>);

impl Prober {
    pub(crate) fn new(mut config: ClientConfig) -> Result<Self, KafkaError> {
        let config = config.remove("group.id").remove("group.instance.id");
        config.set("allow.auto.create.topics", "false");
        Ok(Self(config.create_with_context(Probe::default())?))
    }

    /// How many partitions a topic has, or what the brokers have against it. Blocks for `patience` at most.
    pub(crate) fn partitions(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<Result<i32, RDKafkaErrorCode>, KafkaError> {
        let metadata = self.0.fetch_metadata(Some(topic), patience);
        drain(&self.0);
        let metadata = metadata?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(match found.map(|found| (found.error(), found.partitions().len())) {
            Some((None, count)) => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            Some((Some(error), _)) => Err(error.into()),
            None => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        })
    }
}

/// Brings out what the client has reported, and keeps it from piling up.
fn drain(probe: &BaseConsumer<Probe>) {
    const EVENTS: usize = 32;
    for _ in 0..EVENTS {
        probe.poll(Duration::ZERO);
    }
}

/// The most telling thing that the client has reported.
fn last_words(probe: &BaseConsumer<Probe>) -> Option<String> {
    probe.context().reason.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Keeps why connecting fails, for the error; nothing is logged.
#[derive(Default)]
struct Probe {
    reason: Mutex<Option<String>>,
}

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(RDKafkaLogLevel::Debug, facility, message);
        if (level as i32) <= RDKafkaLogLevel::Error as i32 {
            let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            // "[thrd:..]: host:port/bootstrap: Connect to .. failed: ..": the thread is nobody's business.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            *reason = Some(message.to_owned());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Probe {}

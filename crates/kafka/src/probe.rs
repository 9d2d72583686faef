//! Asks the brokers for a topic before anything is started, so that a wrong address or name is an error at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

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

fn ask(mut config: ClientConfig, topic: &str) -> Result<(), Error> {
    let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
    // A consumer without a group joins nothing, and does not create the topics that it asks for.
    config.remove("group.id").remove("group.instance.id").set("allow.auto.create.topics", "false");
    let probe: BaseConsumer<Probe> = config
        .create_with_context(Probe::default())
        .map_err(|error| Error::Configure(error.into()))?;
    match probe.fetch_metadata(Some(topic), CONNECT_TIMEOUT) {
        Ok(metadata) => topic_error(&metadata, topic).map_or(Ok(()), |code| match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                Err(Error::NoSuchTopic { brokers, topic: topic.to_owned() })
            }
            // A topic that has just been created; its leader comes.
            RDKafkaErrorCode::LeaderNotAvailable => Ok(()),
            code => {
                let source = KafkaError::MetadataFetch(code).into();
                Err(Error::Topic { brokers, topic: topic.to_owned(), source })
            }
        }),
        Err(error) => {
            let detail = last_words(&probe).unwrap_or_else(|| error.to_string());
            Err(Error::Unreachable { brokers, timeout: CONNECT_TIMEOUT, detail })
        }
    }
}

fn topic_error(metadata: &Metadata, topic: &str) -> Option<RDKafkaErrorCode> {
    match metadata.topics().iter().find(|found| found.name() == topic) {
        Some(found) => found.error().map(RDKafkaErrorCode::from),
        None => Some(RDKafkaErrorCode::UnknownTopicOrPartition),
    }
}

/// The most telling thing that the client has reported, which only polling brings out.
fn last_words(probe: &BaseConsumer<Probe>) -> Option<String> {
    const EVENTS: usize = 32;
    for _ in 0..EVENTS {
        probe.poll(Duration::ZERO);
    }
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

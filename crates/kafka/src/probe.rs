//! Asks the brokers for a topic before anything is started, so that a wrong address or name is an error at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};
use tokio::time::Instant;

use crate::Error;

/// How long connecting waits for a broker to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that a broker of `config` answers within [`CONNECT_TIMEOUT`] and has `topic`. Gives the id of one
/// of them.
pub(crate) async fn check_topic(config: ClientConfig, topic: String) -> Result<Option<i32>, Error> {
    let asked = topic.clone();
    tokio::task::spawn_blocking(move || ask(config, &asked))
        .await
        .unwrap_or(Err(Error::ThreadEnded { topic }))
}

fn ask(config: ClientConfig, topic: &str) -> Result<Option<i32>, Error> {
    let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
    let prober = Prober::new(config).map_err(|error| Error::Configure(error.into()))?;
    match prober.settled(topic) {
        Ok(Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
            Err(Error::NoSuchTopic { brokers, topic: topic.to_owned() })
        }
        // The latter is a topic that has just been created; its leader comes.
        Ok(Ok(_) | Err(RDKafkaErrorCode::LeaderNotAvailable)) => {
            Ok(lock(&prober.0.context().seen).broker)
        }
        Ok(Err(code)) => {
            let source = KafkaError::MetadataFetch(code).into();
            Err(Error::Topic { brokers, topic: topic.to_owned(), source })
        }
        Err(error) => {
            let detail = prober.last_words().unwrap_or_else(|| error.to_string());
            Err(match prober.refused() {
                Some(RDKafkaErrorCode::Authentication) => Error::Authentication { brokers, detail },
                Some(_) => Error::Tls { brokers, detail },
                // The states in which librdkafka says that it was when the connection ended.
                None if detail.contains("SSL_HANDSHAKE") => Error::Tls { brokers, detail },
                None if detail.contains("APIVERSION_QUERY") => Error::HungUp { brokers, detail },
                None => Error::Unreachable { brokers, timeout: CONNECT_TIMEOUT, detail },
            })
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

    /// How many partitions a topic has, or what the brokers have against it. Blocks for `patience` at most, and not
    /// longer where the brokers refuse this client.
    pub(crate) fn partitions(
        &self,
        topic: &str,
        patience: Duration,
    ) -> Result<Result<i32, RDKafkaErrorCode>, KafkaError> {
        let metadata = self.metadata(topic, patience)?;
        lock(&self.0.context().seen).broker = metadata.brokers().first().map(MetadataBroker::id);
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(match found.map(|found| (found.error(), found.partitions().len())) {
            Some((None, count)) => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            Some((Some(error), _)) => Err(error.into()),
            None => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        })
    }

    /// How many partitions a topic has. One that has just been made is not known to every broker at once.
    fn settled(&self, topic: &str) -> Result<Result<i32, RDKafkaErrorCode>, KafkaError> {
        const SPREADS: Duration = Duration::from_secs(2);
        const AGAIN: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + SPREADS;
        loop {
            match self.partitions(topic, CONNECT_TIMEOUT)? {
                Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
                    if Instant::now() < deadline =>
                {
                    thread::park_timeout(AGAIN);
                }
                found => return Ok(found),
            }
        }
    }

    /// Asks for longer and longer, and looks in between at what was reported: librdkafka goes on where it is refused.
    fn metadata(&self, topic: &str, patience: Duration) -> Result<Metadata, KafkaError> {
        const FIRST: Duration = Duration::from_millis(300);
        let deadline = Instant::now() + patience;
        let mut wait = FIRST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A last time that is short would be of no use.
            let last = left < 3 * wait;
            let asked = self.0.fetch_metadata(Some(topic), if last { left } else { wait });
            self.drain();
            match asked {
                Err(_) if !last && self.refused().is_none() => wait *= 2,
                asked => return asked,
            }
        }
    }

    /// Brings out what the client has reported, and keeps it from piling up.
    fn drain(&self) {
        const EVENTS: usize = 64;
        for _ in 0..EVENTS {
            if let Some(Err(error)) = self.0.poll(Duration::ZERO)
                && let Some(code) = error.rdkafka_error_code()
                && let RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL = code
            {
                lock(&self.0.context().seen).refused = Some(code);
            }
        }
    }

    /// Why the brokers, or this client of theirs, refuse to go on, where they do.
    fn refused(&self) -> Option<RDKafkaErrorCode> {
        lock(&self.0.context().seen).refused
    }

    /// The most telling thing that the client has reported.
    fn last_words(&self) -> Option<String> {
        lock(&self.0.context().seen).reason.take()
    }
}

/// Keeps why connecting fails, for the error; nothing is logged.
#[derive(Default)]
struct Probe {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    reason: Option<String>,
    refused: Option<RDKafkaErrorCode>,
    broker: Option<i32>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(RDKafkaLogLevel::Debug, facility, message);
        let is_error = (level as i32) <= RDKafkaLogLevel::Error as i32;
        // Connections that the other side ends are told with less noise.
        if !is_error && facility != "FAIL" {
            return;
        }
        let reason = &mut lock(&self.seen).reason;
        if is_error || reason.is_none() {
            // "[thrd:..]: host:port/bootstrap: Connect to .. failed: ..": the thread is nobody's business.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            *reason = Some(message.to_owned());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Probe {}

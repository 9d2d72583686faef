//! Asks the brokers for a topic before anything is started, so that a wrong address or name is
//! reported at once.

use parking_lot::{Mutex, MutexGuard};
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

/// Checks that a broker of `config` answers within ten seconds and has `topic`. Returns the id of
/// one of the brokers.
///
/// # Errors
///
/// Returns an error that says why the topic cannot be used: no broker answers, the brokers refuse
/// this client, or they do not have the topic.
pub async fn check_topic(config: ClientConfig, topic: String) -> Result<Option<i32>, Error> {
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
        // A topic without a leader has just been created and gets one soon.
        Ok(Ok(_) | Err(RDKafkaErrorCode::LeaderNotAvailable)) => {
            Ok(lock(&prober.0.context().seen).broker)
        }
        Ok(Err(code)) => {
            let source = KafkaError::MetadataFetch(code).into();
            Err(Error::Topic { brokers, topic: topic.to_owned(), source })
        }
        Err(error) => {
            let detail = prober.take_reason().unwrap_or_else(|| error.to_string());
            Err(match prober.refused() {
                Some(RDKafkaErrorCode::Authentication) => Error::Authentication { brokers, detail },
                Some(_) => Error::Tls { brokers, detail },
                // librdkafka names the connection state in which the connection ended.
                None if detail.contains("SSL_HANDSHAKE") => Error::Tls { brokers, detail },
                None if detail.contains("APIVERSION_QUERY") => Error::HungUp { brokers, detail },
                None => Error::Unreachable { brokers, timeout: CONNECT_TIMEOUT, detail },
            })
        }
    }
}

/// A client that asks about topics without joining a group or creating topics.
pub(crate) struct Prober(BaseConsumer<Probe>);

impl Prober {
    pub(crate) fn new(mut config: ClientConfig) -> Result<Self, KafkaError> {
        let config = config.remove("group.id").remove("group.instance.id");
        config.set("allow.auto.create.topics", "false");
        Ok(Self(config.create_with_context(Probe::default())?))
    }

    /// Returns the number of partitions of a topic, or the brokers' error for it. Blocks for at
    /// most `patience`, and less if the brokers refuse this client.
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

    /// Like [`partitions`](Self::partitions), but repeats the question for a while if the topic is
    /// unknown, because a new topic is not known to every broker at once.
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

    /// Asks with longer and longer timeouts. In between, checks whether the brokers refused this
    /// client, because librdkafka would keep trying until the timeout.
    fn metadata(&self, topic: &str, patience: Duration) -> Result<Metadata, KafkaError> {
        const FIRST: Duration = Duration::from_millis(300);
        let deadline = Instant::now() + patience;
        let mut wait = FIRST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // If the time that is left is too short for two more attempts, this one takes all of
            // it.
            let last = left < 3 * wait;
            let asked = self.0.fetch_metadata(Some(topic), if last { left } else { wait });
            self.drain();
            match asked {
                Err(_) if !last && self.refused().is_none() => wait *= 2,
                asked => return asked,
            }
        }
    }

    /// Serves the client's events, so that they do not pile up, and notes whether it was refused.
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

    /// Returns the error if the brokers refuse this client's credentials, or if TLS fails.
    fn refused(&self) -> Option<RDKafkaErrorCode> {
        lock(&self.0.context().seen).refused
    }

    /// Takes the most specific reason that the client has reported.
    fn take_reason(&self) -> Option<String> {
        lock(&self.0.context().seen).reason.take()
    }
}

/// Keeps the reason why connecting fails, for the error message. Logs at debug level only.
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
    seen.lock()
}

impl ClientContext for Probe {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(RDKafkaLogLevel::Debug, facility, message);
        let is_error = (level as i32) <= RDKafkaLogLevel::Error as i32;
        // A connection that the other side ends is logged below the error level, with the facility
        // `FAIL`.
        if !is_error && facility != "FAIL" {
            return;
        }
        let reason = &mut self.seen.lock().reason;
        if is_error || reason.is_none() {
            // Drops the thread's name, as in `[thrd:..]: host:port/bootstrap: Connect to host
            // failed`.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            *reason = Some(message.to_owned());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Probe {}

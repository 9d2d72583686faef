//! Asks the brokers for a topic before anything is started, so that a wrong address or name is
//! reported at once.

mod leaders;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};
use tokio::time::Instant;

use crate::Error;
use crate::connections::{self, Failure};

/// How long a connection may take to be set up, in milliseconds.
const SETUP_TIMEOUT: (&str, &str) = ("socket.connection.setup.timeout.ms", "3000");

/// How long connecting waits for a broker to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that a broker of `config` answers within ten seconds and has `topic`, and that a leader
/// of the topic's partitions answers. Returns the id of one of the brokers.
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

fn ask(config: ClientConfig, name: &str) -> Result<Option<i32>, Error> {
    let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
    let prober = Prober::new(config).map_err(|error| Error::Configure(error.into()))?;
    match prober.settled(name) {
        Ok(Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
            Err(Error::NoSuchTopic { brokers, topic: name.to_owned() })
        }
        Ok(Ok(topic)) => {
            leaders::check(&prober, name, &topic, brokers)?;
            Ok(topic.addresses.keys().next().copied())
        }
        // A topic without a leader has just been created and gets one soon.
        Ok(Err(RDKafkaErrorCode::LeaderNotAvailable)) => Ok(None),
        Ok(Err(code)) => {
            let source = KafkaError::MetadataFetch(code).into();
            Err(Error::Topic { brokers, topic: name.to_owned(), source })
        }
        Err(error) => Err(prober.explain(&error, brokers)),
    }
}

/// A topic, as the brokers describe it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) partitions: i32,
    /// The leaders of the partitions, each with one partition that it leads.
    leaders: BTreeMap<i32, i32>,
    /// The addresses that the brokers advertise, by broker id.
    addresses: BTreeMap<i32, String>,
    /// The address that was asked.
    asked: String,
}

impl Topic {
    fn read(metadata: &Metadata, name: &str) -> Result<Self, RDKafkaErrorCode> {
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let found = found.ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
        if let Some(error) = found.error() {
            return Err(error.into());
        }
        let led = found.partitions().iter().filter(|partition| partition.leader() >= 0);
        let address = |broker: &MetadataBroker| format!("{}:{}", broker.host(), broker.port());
        let brokers = metadata.brokers().iter();
        let asked = metadata.orig_broker_name();
        Ok(Self {
            partitions: i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
            leaders: led.map(|partition| (partition.leader(), partition.id())).collect(),
            addresses: brokers.map(|broker| (broker.id(), address(broker))).collect(),
            asked: connections::address(asked).unwrap_or(asked).to_owned(),
        })
    }
}

/// A client that asks about topics without joining a group or creating topics.
pub(crate) struct Prober {
    client: BaseConsumer<Probe>,
    // Whether there is one bootstrap server, so that no other can give a better answer.
    is_single: bool,
}

impl Prober {
    pub(crate) fn new(mut config: ClientConfig) -> Result<Self, KafkaError> {
        let config = config.remove("group.id").remove("group.instance.id");
        config.set("allow.auto.create.topics", "false");
        // As soon as it knows the cluster's brokers, librdkafka asks only those, and the bootstrap
        // servers again when connections to all of them have failed. An advertised address that
        // accepts connections and stays silent must therefore fail within the probe's patience.
        if config.get(SETUP_TIMEOUT.0).is_none() {
            config.set(SETUP_TIMEOUT.0, SETUP_TIMEOUT.1);
        }
        let is_single = !config.get("bootstrap.servers").is_some_and(|list| list.contains(','));
        Ok(Self { client: config.create_with_context(Probe::default())?, is_single })
    }

    /// Describes a topic, or returns the brokers' error for it. Blocks for at most `patience`, and
    /// less if the brokers refuse this client.
    pub(crate) fn topic(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<Result<Topic, RDKafkaErrorCode>, KafkaError> {
        Ok(Topic::read(&self.metadata(name, patience)?, name))
    }

    /// Like [`topic`](Self::topic), but repeats the question for a while if the topic is unknown,
    /// because a new topic is not known to every broker at once.
    fn settled(&self, name: &str) -> Result<Result<Topic, RDKafkaErrorCode>, KafkaError> {
        const SPREADS: Duration = Duration::from_secs(2);
        const AGAIN: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + SPREADS;
        loop {
            match self.topic(name, CONNECT_TIMEOUT)? {
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
            let asked = self.client.fetch_metadata(Some(topic), if last { left } else { wait });
            self.drain();
            match asked {
                Err(error) if is_no_broker(&error) && (last || self.is_single) => {
                    return Err(error);
                }
                // The next attempt may ask another server.
                Err(error) if is_no_broker(&error) => thread::park_timeout(wait),
                Err(_) if !last && self.refused().is_none() => wait *= 2,
                asked => return asked,
            }
        }
    }

    /// Serves the client's events, so that they do not pile up, and notes whether it was refused.
    fn drain(&self) {
        const EVENTS: usize = 64;
        for _ in 0..EVENTS {
            if let Some(Err(error)) = self.client.poll(Duration::ZERO)
                && let Some(code) = error.rdkafka_error_code()
                && let RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL = code
            {
                self.seen().refused = Some(code);
            }
        }
    }

    /// Returns why no broker answered.
    fn explain(&self, error: &KafkaError, brokers: String) -> Error {
        // The size of a response that begins with "HTTP".
        const HTTP: &str = "Invalid response size 1213486160";
        if is_no_broker(error) {
            let detail = "it gives no metadata; a KRaft controller answers like this: use the port \
                          of a broker, which its `listeners` name";
            return Error::NotABroker { brokers, detail };
        }
        let detail = self.seen().reason.take().unwrap_or_else(|| error.to_string());
        match self.refused() {
            Some(RDKafkaErrorCode::Authentication) => Error::Authentication { brokers, detail },
            Some(_) => Error::Tls { brokers, detail },
            None if detail.contains(HTTP) => {
                let detail = "it speaks HTTP; use the port of Kafka's own protocol";
                Error::NotABroker { brokers, detail }
            }
            // librdkafka names the connection state in which the connection ended.
            None if detail.contains("SSL_HANDSHAKE") => Error::Tls { brokers, detail },
            None if detail.contains("APIVERSION_QUERY") => Error::HungUp { brokers, detail },
            None => Error::Unreachable { brokers, timeout: CONNECT_TIMEOUT, detail },
        }
    }

    /// Returns the error if the brokers refuse this client's credentials, or if TLS fails.
    fn refused(&self) -> Option<RDKafkaErrorCode> {
        self.seen().refused
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.client.context().seen.lock()
    }
}

/// Whether a server answers, and has no metadata because it is no broker.
fn is_no_broker(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature)
}

/// Keeps the reasons why connecting fails, for the error message. Logs at debug level only.
#[derive(Default)]
struct Probe {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The most specific reason that the client has reported.
    reason: Option<String>,
    /// The last reason for each address.
    reasons: BTreeMap<String, String>,
    refused: Option<RDKafkaErrorCode>,
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
        let mut seen = self.seen.lock();
        if let Some(failure) = Failure::read(message) {
            seen.reasons.insert(failure.address.to_owned(), failure.reason.to_owned());
        }
        if is_error || seen.reason.is_none() {
            // Drops the thread's name, as in `[thrd:..]: host:port/bootstrap: Connect to host
            // failed`.
            let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            seen.reason = Some(message.to_owned());
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Probe {}

//! `Writer`: writes the requests of dead letters to the topics that they came from, or all to one
//! topic.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_kafka::client::{Log, check_topic, fit_batches};
use forebay_kafka::{Error, SinkConfig};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as RecordHeader, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::{Letter, ReplayTo};

/// Limits on the number and the bytes of records that are sent and not confirmed. A record that is
/// larger than `MAX_BYTES` is sent when no other is outstanding.
const MAX_RECORDS: usize = 1_000;
const MAX_BYTES: usize = 16 << 20;

pub(super) struct Writer {
    to: To,
    sent: FuturesUnordered<BoxFuture<'static, Sent>>,
    bytes: usize,
}

enum To {
    Origins(BTreeMap<String, Destination>),
    Topic(Destination),
}

struct Destination {
    topic: String,
    producer: FutureProducer<Log>,
    partitions: i32,
}

struct Sent {
    partition: i32,
    offset: i64,
    bytes: usize,
    topic: String,
    result: Result<(), KafkaError>,
}

/// The outcome of a letter that was sent.
pub(super) struct Confirmed {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// An error if the brokers refused this record but may accept others.
    pub(super) result: Result<(), KafkaError>,
}

impl Writer {
    pub(super) async fn connect(to: ReplayTo) -> Result<Self, Error> {
        let to = match to {
            ReplayTo::Topic(config) => To::Topic(Destination::connect(config).await?),
            ReplayTo::Origins(configs) => {
                let mut origins = BTreeMap::new();
                for config in configs {
                    origins.insert(config.topic.clone(), Destination::connect(config).await?);
                }
                To::Origins(origins)
            }
        };
        Ok(Self { to, sent: FuturesUnordered::new(), bytes: 0 })
    }

    /// Returns the topic to which requests from the topic `origin` are written, if there is one.
    pub(super) fn topic_for(&self, origin: &str) -> Option<&str> {
        let destination = match &self.to {
            To::Topic(destination) => destination,
            To::Origins(origins) => origins.get(origin)?,
        };
        Some(&destination.topic)
    }

    pub(super) fn is_full(&self, letter: &Letter) -> bool {
        !self.sent.is_empty()
            && (self.sent.len() >= MAX_RECORDS
                || self.bytes.saturating_add(size(letter)) > MAX_BYTES)
    }

    /// Queues a letter's request. Returns `false` if librdkafka's queue is full.
    pub(super) fn send(&mut self, letter: &Letter) -> Result<bool, Error> {
        let origin = &letter.about.origin;
        let (destination, to_origin) = match &self.to {
            To::Topic(destination) => (Some(destination), false),
            To::Origins(origins) => (origins.get(&*origin.source), true),
        };
        let Some(destination) = destination else {
            let reason = format!("{} is not among the topics of the replay", origin.source);
            return Err(Error::Setting { setting: "to", reason });
        };
        let mut record = FutureRecord::<[u8], [u8]>::to(&destination.topic);
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        // A request that goes back to its topic keeps its partition, because its client may have
        // chosen the partition in another way than Java's partitioner does.
        let known = |partition: &i32| (0..destination.partitions).contains(partition);
        record.partition = origin.partition.filter(|partition| to_origin && known(partition));
        if !letter.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(letter.headers.len());
            record.headers = Some(letter.headers.iter().fold(headers, |headers, header| {
                headers.insert(RecordHeader { key: &header.name, value: header.value.as_deref() })
            }));
        }
        let bytes = size(letter);
        let topic = destination.topic.clone();
        let partition = letter.at.partition.unwrap_or_default();
        let offset = i64::try_from(letter.at.position).unwrap_or(i64::MAX);
        let about = move |result| Sent { partition, offset, bytes, topic, result };
        let delivery = match destination.producer.send_result(record) {
            Ok(delivery) => delivery,
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                    return Ok(false);
                }
                self.bytes += bytes;
                self.sent.push(Box::pin(async move { about(Err(error)) }));
                return Ok(true);
            }
        };
        self.bytes += bytes;
        self.sent.push(Box::pin(async move {
            about(match delivery.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(error),
                Err(_) => Err(KafkaError::Canceled),
            })
        }));
        Ok(true)
    }

    /// Returns the next letter that was confirmed or refused; `None` if none is under way. This
    /// method is cancel safe.
    pub(super) async fn confirmed(&mut self) -> Result<Option<Confirmed>, Error> {
        let Some(sent) = self.sent.next().await else { return Ok(None) };
        self.bytes -= sent.bytes;
        let Sent { partition, offset, topic, result, .. } = sent;
        match result {
            Err(error) if !is_record_error(&error) => {
                Err(Error::Write { topic, source: error.into() })
            }
            result => Ok(Some(Confirmed { partition, offset, result })),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }
}

impl Destination {
    async fn connect(config: SinkConfig) -> Result<Self, Error> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut client = config.client()?;
        let topic = config.topic;
        let broker = check_topic(client.clone(), topic.clone()).await?;
        fit_batches(&mut client, &topic, broker).await;
        let log = Log::of(&mut client);
        let producer: FutureProducer<Log> =
            client.create_with_context(log).map_err(|error| Error::Configure(error.into()))?;
        let asking = producer.clone();
        let asked = topic.clone();
        let metadata = tokio::task::spawn_blocking(move || {
            let metadata = asking.client().fetch_metadata(Some(&asked), PATIENCE)?;
            let found = metadata.topics().iter().find(|found| found.name() == asked);
            Ok(found.map_or(0, |found| found.partitions().len()))
        });
        match metadata.await {
            Ok(Ok(count)) => {
                let partitions = i32::try_from(count).unwrap_or(i32::MAX);
                Ok(Self { topic, producer, partitions })
            }
            Ok(Err(error)) => {
                let error: KafkaError = error;
                Err(Error::Write { topic, source: error.into() })
            }
            Err(_) => Err(Error::ThreadEnded { topic }),
        }
    }
}

/// Whether the error concerns this record only, so that the brokers may accept others.
fn is_record_error(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
        )
    )
}

fn size(letter: &Letter) -> usize {
    let headers = letter
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.as_ref().map_or(0, bytes::Bytes::len));
    let parts = [&letter.key, &letter.value].map(|part| part.as_ref().map_or(0, bytes::Bytes::len));
    headers.sum::<usize>() + parts.iter().sum::<usize>()
}

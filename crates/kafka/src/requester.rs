//! `Requester`: a client of a pipeline, which sends a request and waits for its reply.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::Header;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header as RecordHeader, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Error, Options, native, probe};

/// The header that matches a reply with its request, named as in Spring's `ReplyingKafkaTemplate`.
pub const CORRELATION_ID: &str = "kafka_correlationId";

/// A client of a pipeline: writes requests, reads replies, and matches them by correlation id.
///
/// It reads the replies topic from its end, outside of any group, so any number of requesters can
/// share one topic. Requests may be made concurrently.
pub struct Requester {
    producer: FutureProducer,
    topic: String,
    prefix: u64,
    sent: AtomicU64,
    waiting: Arc<Waiting>,
    reader: JoinHandle<()>,
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A reply as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value.
    pub value: Option<Bytes>,
    /// The record's headers.
    pub headers: Vec<Header>,
}

/// The waiting calls by correlation id. Bounded by the number of calls under way.
type Waiting = Mutex<HashMap<Vec<u8>, oneshot::Sender<Response>>>;

impl Requester {
    /// Connects, and starts to read replies. `options` are librdkafka's options for the consumer of
    /// the replies.
    ///
    /// # Errors
    ///
    /// Returns an error if no broker answers, or if one of the topics does not exist.
    pub async fn connect(
        brokers: &str,
        requests: &str,
        replies: &str,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers).set("client.id", "forebay-requester");
        probe::check_topic(client.clone(), requests.to_owned()).await?;
        probe::check_topic(client.clone(), replies.to_owned()).await?;

        let producer = client
            .clone()
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random")
            .create()
            .map_err(|error| Error::Configure(error.into()))?;
        client.extend(options.clone());
        let consumer = read_from_end(client, replies.to_owned()).await?;
        let waiting = Arc::default();
        let reader = tokio::spawn(hand_out(consumer, Arc::clone(&waiting)));
        let prefix = RandomState::new().hash_one(std::process::id());
        Ok(Self {
            producer,
            topic: requests.to_owned(),
            prefix,
            sent: AtomicU64::new(0),
            waiting,
            reader,
        })
    }

    /// Sends one request and waits for its reply, for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the request could not be delivered, [`Error::NoReply`] if nothing came
    /// back in time.
    pub async fn request(
        &self,
        key: Option<&[u8]>,
        value: &[u8],
        patience: Duration,
    ) -> Result<Response, Error> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{number}", self.prefix).into_bytes();
        let (sender, response) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), sender);
        // Removes the entry even if the caller drops this future.
        let _pending = PendingReply { waiting: &self.waiting, id: &id };
        match tokio::time::timeout(patience, self.exchange(key, value, &id, response)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.no_reply(patience)),
        }
    }

    fn no_reply(&self, patience: Duration) -> Error {
        Error::NoReply { topic: self.topic.clone(), patience }
    }

    /// Stops reading replies. Dropping a requester does so too, but not at once.
    pub async fn close(mut self) {
        self.reader.abort();
        // The task was aborted, so its result says nothing; this only waits for its end.
        (&mut self.reader).await.ok();
    }

    async fn exchange(
        &self,
        key: Option<&[u8]>,
        value: &[u8],
        id: &[u8],
        response: oneshot::Receiver<Response>,
    ) -> Result<Response, Error> {
        let headers =
            OwnedHeaders::new().insert(RecordHeader { key: CORRELATION_ID, value: Some(id) });
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&self.topic).payload(value).headers(headers);
        record.key = key;
        self.producer.send(record, Timeout::Never).await.map_err(|(error, _)| Error::Write {
            topic: self.topic.clone(),
            source: error.into(),
        })?;
        // The sender is dropped only with the requester.
        response.await.map_err(|_| self.no_reply(Duration::ZERO))
    }
}

/// An entry among the waiting calls, removed on drop.
struct PendingReply<'a> {
    waiting: &'a Waiting,
    id: &'a [u8],
}

impl Drop for PendingReply<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(self.id);
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Returns a consumer of every partition of `topic`, which begins at their current ends.
async fn read_from_end(mut client: ClientConfig, topic: String) -> Result<StreamConsumer, Error> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    client.set("group.id", "forebay-requester").set("enable.auto.commit", "false");
    let assigned = topic.clone();
    let consumer = tokio::task::spawn_blocking(move || {
        let consumer: StreamConsumer = client.create()?;
        let metadata = consumer.fetch_metadata(Some(&assigned), TIMEOUT)?;
        let mut partitions = TopicPartitionList::new();
        for partition in
            metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions)
        {
            let (_, end) = consumer.fetch_watermarks(&assigned, partition.id(), TIMEOUT)?;
            partitions.add_partition_offset(&assigned, partition.id(), Offset::Offset(end))?;
        }
        consumer.assign(&partitions)?;
        Ok(consumer)
    });
    match consumer.await {
        Ok(consumer) => {
            consumer.map_err(|source: KafkaError| Error::Read { topic, source: source.into() })
        }
        Err(_) => Err(Error::ThreadEnded { topic }),
    }
}

/// Passes each reply to the call that waits for it. Errors are only logged: librdkafka recovers
/// from them by itself, and a call whose reply was lost times out.
async fn hand_out(consumer: StreamConsumer, waiting: Arc<Waiting>) {
    loop {
        match consumer.recv().await {
            Ok(message) => deliver(&message, &waiting),
            Err(error) => tracing::warn!(%error, "reading replies failed"),
        }
    }
}

fn deliver(message: &BorrowedMessage<'_>, waiting: &Waiting) {
    let headers = native::headers(message);
    let id = headers
        .iter()
        .find(|header| header.name == CORRELATION_ID)
        .and_then(|header| header.value.clone());
    let Some(waiter) = id.and_then(|id| lock(waiting).remove(&*id)) else { return };
    let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    // Sending fails if the caller has given up.
    waiter
        .send(Response { key: copy(message.key()), value: copy(message.payload()), headers })
        .ok();
}

fn lock(
    waiting: &Waiting,
) -> parking_lot::MutexGuard<'_, HashMap<Vec<u8>, oneshot::Sender<Response>>> {
    waiting.lock()
}

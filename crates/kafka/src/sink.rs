//! `Sink`: a topic to which replies are written, each under the key of its request.

mod delivery;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::{Event, Header, Meta};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as RecordHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::time::{Instant, timeout_at};

use self::delivery::{Deliveries, PollThread};
use crate::{Error, SinkConfig, probe};

/// What is written for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The record's value; `None` writes a null.
    pub value: Option<Bytes>,
    /// Headers in addition to the request's own, which come first.
    pub headers: Vec<Header>,
}

/// Writes replies to a topic, idempotently and confirmed by all replicas.
///
/// A record carries its request's key, byte for byte, and so lands where Java's default partitioner would put it; and
/// its request's headers, so a correlation id finds its way back. Records of one key keep their order.
pub struct Sink {
    thread: PollThread,
    topic: Arc<str>,
    delivery_timeout: Duration,
}

impl Sink {
    /// Connects to the brokers and checks that the topic exists.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work, when no broker answers within ten seconds, and when there is no such topic.
    pub async fn connect(config: SinkConfig) -> Result<Self, Error> {
        let client = config.client()?;
        probe::check_topic(client.clone(), config.topic.clone()).await?;
        let topic: Arc<str> = config.topic.into();
        let thread = PollThread::start(&client, Arc::clone(&topic))?;
        Ok(Self { thread, topic, delivery_timeout: config.delivery_timeout })
    }

    /// Replies that were sent and not confirmed yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.deliveries().outstanding()
    }

    fn deliveries(&self) -> &Deliveries {
        self.thread.producer().context()
    }

    /// The error after which librdkafka sends nothing more, if there was one.
    fn check(&self) -> Result<(), Error> {
        let topic = || self.topic.to_string();
        if let Some((code, reason)) = self.thread.producer().client().fatal_error() {
            tracing::error!(topic = %self.topic, %code, "{reason}");
            return Err(Error::Write { topic: topic(), source: KafkaError::Global(code).into() });
        }
        if self.thread.has_ended() { Err(Error::ThreadEnded { topic: topic() }) } else { Ok(()) }
    }
}

impl forebay_stream::Sink<Reply> for Sink {
    type Error = Error;

    /// Queues the reply. Its receipt is done when the brokers confirm it, and fails as `reply_too_large` or
    /// `delivery_failed` when they will not have it. Waits while librdkafka's queue is full.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Error> {
        self.check()?;
        let Event { value: reply, meta, receipt } = event;
        let headers = headers(&meta, &reply.headers);
        let delivery = Box::new(self.deliveries().begin(receipt, &self.topic));
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, delivery);
        record.key = meta.key.as_deref();
        record.payload = reply.value.as_deref();
        record.headers = headers;
        while let Err((error, back)) = self.thread.producer().send(record) {
            match error.rdkafka_error_code() {
                // The record waits here, so none overtakes it.
                Some(RDKafkaErrorCode::QueueFull) => {
                    record = back;
                    self.deliveries().room().await;
                    self.check()?;
                }
                Some(RDKafkaErrorCode::Fatal) => {
                    back.delivery_opaque.abandon();
                    self.check()?;
                    break;
                }
                _ => {
                    back.delivery_opaque.fail(&error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Nothing waits to be pushed: librdkafka sends by itself, a moment (`linger.ms`) after a reply is queued.
    async fn flush(&mut self) -> Result<(), Error> {
        self.check()
    }

    /// Waits until everything is confirmed or has failed. librdkafka decides that within the delivery timeout.
    async fn close(&mut self) -> Result<(), Error> {
        const GRACE: Duration = Duration::from_secs(5);
        let timeout = self.delivery_timeout + GRACE;
        if timeout_at(Instant::now() + timeout, self.deliveries().all()).await.is_err() {
            let count = self.deliveries().outstanding();
            return Err(Error::Undelivered { topic: self.topic.to_string(), count, timeout });
        }
        self.check()
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The request's headers, then the reply's own; `None` where there are none at all.
pub(crate) fn headers(meta: &Meta, own: &[Header]) -> Option<OwnedHeaders> {
    let count = meta.headers.len() + own.len();
    if count == 0 {
        return None;
    }
    let all = meta.headers.iter().chain(own);
    Some(all.fold(OwnedHeaders::new_with_capacity(count), |headers, Header { name, value }| {
        headers.insert(RecordHeader { key: name, value: value.as_deref() })
    }))
}

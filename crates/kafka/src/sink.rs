//! `Sink`: a topic to which replies are written, each under the key of its request.

pub(crate) mod batches;
mod delivery;
mod outgoing;
mod reply_targets;
mod topics;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::{Event, Header};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::time::{Instant, timeout_at};

use self::delivery::{Deliveries, PollThread};
use crate::{Error, SinkConfig, probe};

pub(crate) use self::outgoing::{Addressed, Outgoing, headers};
pub(crate) use self::reply_targets::ReplyTarget;

/// What is written for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The record's value; `None` writes a null.
    pub value: Option<Bytes>,
    /// Headers in addition to the request's own, which come first.
    pub headers: Vec<Header>,
    /// What becomes of it where its request asks for a place that it cannot have.
    pub kind: ReplyKind,
}

/// What a reply is, which decides where it may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyKind {
    /// Goes where its request asks; its receipt fails where that cannot be.
    #[default]
    Result,
    /// Goes where its request asks, or to the sink's own topic where that cannot be: it may be what tells so.
    Error,
    /// Goes to the sink's own topic, whatever its request asks for, and has the request's headers as they are.
    Copy,
}

/// Writes replies to a topic, idempotently and confirmed by all replicas.
///
/// A record carries its request's key, byte for byte, and so lands where Java's default partitioner would put it; and
/// its request's headers, so a correlation id finds its way back; of these only a valid `traceparent` is changed, so that
/// the reply is of the same trace with a span of its own. Records of one key keep their order. A request may ask
/// for its reply in another topic or a partition of its choice, see [`ReplyTo`](crate::ReplyTo).
pub struct Sink {
    thread: PollThread,
    outgoing: Outgoing,
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
        let mut client = config.client()?;
        let broker = probe::check_topic(client.clone(), config.topic.clone()).await?;
        batches::fit(&mut client, &config.topic, broker).await;
        let (topic, delivery_timeout) = (config.topic.as_str().into(), config.delivery_timeout);
        let thread = PollThread::start(&client, Arc::clone(&topic))?;
        let outgoing = Outgoing::new(config, client);
        Ok(Self { thread, outgoing, topic, delivery_timeout })
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
    ///
    /// Where the request asks for a place, the receipt of a [result](ReplyKind::Result) may also fail as
    /// `invalid_reply_topic`, `reply_topic_not_allowed`, `reply_topic_missing` or `invalid_reply_partition`.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Error> {
        self.check()?;
        let Event { value: reply, meta, receipt } = event;
        let Addressed { place, traceparent } = match self.outgoing.address(&meta, &reply).await {
            Ok(addressed) => addressed,
            Err(failure) => {
                receipt.fail(failure);
                return Ok(());
            }
        };
        let delivery = self.deliveries().begin(receipt, &place, reply.kind);
        let mut record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&place.topic, Box::new(delivery));
        record.partition = place.partition;
        record.key = meta.key.as_deref();
        record.payload = reply.value.as_deref();
        record.headers = headers(&meta, traceparent.as_deref(), &reply.headers);
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

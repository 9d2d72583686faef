//! `Sink`: a topic to which replies are written, each under the key of its request.

pub(crate) mod batches;
mod delivery;
mod outgoing;
mod reply_targets;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::{Event, Header};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::time::{Instant, timeout_at};

use self::delivery::{Deliveries, PollThread};
use crate::{Error, SinkConfig, probe};

pub(crate) use self::delivery::is_unknown_topic;
pub(crate) use self::outgoing::{Addressed, Outgoing, headers};
pub(crate) use self::reply_targets::ReplyTarget;

/// A reply to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The record's value; `None` writes a null.
    pub value: Option<Bytes>,
    /// Headers in addition to the request's own, which come first.
    pub headers: Vec<Header>,
    /// The kind of the reply, which decides where it is written if its request names a target that
    /// cannot be used.
    pub kind: ReplyKind,
}

/// The kind of a reply, which decides where it may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyKind {
    /// Is written to the target that its request names; its receipt fails if that is impossible.
    #[default]
    Result,
    /// Is written to the target that its request names, or to the sink's own topic if that is
    /// impossible: this reply may be the one that reports the bad target.
    Error,
    /// Is written to the sink's own topic, whatever target its request names, with the request's
    /// headers unchanged: a dead letter is a copy of its request.
    Copy,
}

/// Writes replies to a topic, idempotently and confirmed by all replicas.
///
/// A reply carries its request's key byte for byte, so it lands in the partition that Java's
/// default partitioner would choose. It also carries its request's headers, so that a client can
/// match it by the correlation id, except those in [`DropHeaders`](crate::DropHeaders). Replies with the same key keep their order. A request may name
/// another topic or partition for its reply, see [`ReplyTo`](crate::ReplyTo).
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
    /// Returns an error if the configuration is invalid, if no broker answers within ten seconds,
    /// or if the topic does not exist.
    pub async fn connect(config: SinkConfig) -> Result<Self, Error> {
        let mut client = config.client()?;
        let broker = probe::check_topic(client.clone(), config.topic.clone()).await?;
        batches::fit(&mut client, &config.topic, broker).await;
        let topic = config.topic.as_str().into();
        let delivery_timeout = config.delivery_timeout;
        let thread = PollThread::start(&client, Arc::clone(&topic))?;
        let outgoing = Outgoing::new(config, client);
        Ok(Self { thread, outgoing, topic, delivery_timeout })
    }

    /// Returns the number of replies that were sent and not confirmed yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.deliveries().outstanding()
    }

    fn deliveries(&self) -> &Deliveries {
        self.thread.producer().context()
    }

    /// Returns an error if librdkafka has had a fatal error, after which it sends nothing more, or
    /// if the poll thread has ended.
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

    /// Queues the reply. Fails for an error reply if the sink's own topic does not exist any more.
    /// The reply's receipt is done when the brokers confirm it, and fails as
    /// `reply_too_large` or `delivery_failed` if they refuse it or do not confirm it in time. Waits
    /// while librdkafka's queue is full.
    ///
    /// If the request names a target, the receipt of a [result](ReplyKind::Result) may also fail as
    /// `invalid_reply_topic`, `reply_topic_not_allowed`, `reply_topic_missing` or
    /// `invalid_reply_partition`.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Error> {
        self.check()?;
        let Event { value: reply, meta, receipt } = event;
        // If even the error reply cannot be written, the sink has failed, and not the source whose
        // request would get no answer.
        if reply.kind == ReplyKind::Error && self.deliveries().topic_is_gone() {
            return Err(Error::TopicGone { topic: self.topic.to_string() });
        }
        let Addressed { target, drop } = match self.outgoing.address(&meta, &reply).await {
            Ok(addressed) => addressed,
            Err(failure) => {
                receipt.fail(failure);
                return Ok(());
            }
        };
        let delivery = self.deliveries().begin(receipt, &target, reply.kind);
        let mut record =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(&target.topic, Box::new(delivery));
        record.partition = target.partition;
        record.key = meta.key.as_deref();
        record.payload = reply.value.as_deref();
        record.headers = headers(&meta, drop.as_deref(), &reply.headers);
        while let Err((error, back)) = self.thread.producer().send(record) {
            match error.rdkafka_error_code() {
                // The record is sent again before any other, so replies keep their order.
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
                    self.deliveries().fail(*back.delivery_opaque, &error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Only checks for errors, because librdkafka sends by itself, `linger.ms` after a reply is
    /// queued.
    async fn flush(&mut self) -> Result<(), Error> {
        self.check()
    }

    /// Waits until every reply is confirmed or has failed. librdkafka reports one of both within
    /// the delivery timeout.
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

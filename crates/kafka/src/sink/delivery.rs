//! `Deliveries`: replies that were sent and are not confirmed, and the thread on which librdkafka
//! reports the confirmations.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay_stream::{Failure, Receipt};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::Notify;

use super::ReplyKind;
use super::reply_targets::{self, ReplyTarget};
use crate::connections::Connections;
use crate::{Error, codes};

/// The receipt of a reply that was sent, with the facts that are needed to settle it. librdkafka
/// keeps it while the reply is under way, and returns it with the outcome.
pub(super) struct Delivery {
    receipt: Receipt,
    topic: Arc<str>,
    // Whether the request named the target.
    asked: bool,
    kind: ReplyKind,
    count: Arc<Count>,
}

/// The number of replies that were sent and are not confirmed.
#[derive(Default)]
struct Count {
    outstanding: AtomicUsize,
    // Notified each time `outstanding` falls.
    fell: Notify,
}

impl Delivery {
    fn done(self) {
        let Self { receipt, count, .. } = self;
        receipt.done();
        count.fall();
    }

    /// Fails the receipt, because this reply is not written.
    fn fail(self, error: &KafkaError) {
        let Self { receipt, topic, asked, count, .. } = self;
        let code = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => codes::REPLY_TOO_LARGE,
            Some(code) if asked => reply_targets::refused(code).unwrap_or(codes::DELIVERY_FAILED),
            _ => codes::DELIVERY_FAILED,
        };
        let cause =
            error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let message = format_args!("the reply was not written to {topic}: {cause}");
        let failure = Failure::new(code, message);
        // Only a timeout is transient: a reply that the brokers refused would be refused again.
        let is_transient = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
        receipt.fail(if is_transient { failure.transient() } else { failure });
        count.fall();
    }

    /// Abandons the receipt, because it is not known whether this reply is written.
    pub(super) fn abandon(self) {
        let Self { receipt, count, .. } = self;
        drop(receipt);
        count.fall();
    }
}

impl Count {
    fn fall(&self) {
        // Pairs with the load in `Deliveries::outstanding`.
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        // At most one task waits: the sink. If it begins to wait later, it finds the permit that
        // this call leaves.
        self.fell.notify_one();
    }
}

/// The context of a sink's producer, which settles receipts as librdkafka reports deliveries.
#[derive(Default)]
pub(super) struct Deliveries {
    count: Arc<Count>,
    // Error replies that could not be written to the target that their request named.
    again: Mutex<Vec<(Box<Delivery>, OwnedMessage)>>,
    connections: Connections,
    // Whether the brokers refused the last reply to the sink's own topic because it is gone.
    topic_is_gone: AtomicBool,
}

impl Deliveries {
    /// Counts a reply that is about to be sent.
    pub(super) fn begin(
        &self,
        receipt: Receipt,
        target: &ReplyTarget,
        kind: ReplyKind,
    ) -> Delivery {
        // Pairs with the load in `outstanding`.
        self.count.outstanding.fetch_add(1, Ordering::AcqRel);
        let topic = Arc::clone(&target.topic);
        let count = Arc::clone(&self.count);
        Delivery { receipt, topic, asked: target.asked, kind, count }
    }

    /// Keeps an error reply that was refused, for `send_again`.
    fn keep(&self, delivery: Box<Delivery>, message: &BorrowedMessage<'_>) {
        self.again.lock().push((delivery, message.detach()));
    }

    /// Writes the [kept](Self::keep) error replies to the sink's own topic.
    fn send_again(&self, producer: &BaseProducer<Self>, own: &Arc<str>) {
        let again = std::mem::take(&mut *self.again.lock());
        for (mut delivery, message) in again {
            tracing::debug!(asked = %delivery.topic, "an error reply goes to the sink's own topic");
            (delivery.topic, delivery.asked) = (Arc::clone(own), false);
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(own, delivery);
            record.key = message.key();
            record.payload = message.payload();
            record.headers = message.headers().cloned();
            if let Err((error, back)) = producer.send(record) {
                let mut delivery = back.delivery_opaque;
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                    delivery.asked = true;
                    let mut again = self.again.lock();
                    again.push((delivery, message));
                } else {
                    self.fail(*delivery, &error);
                }
            }
        }
    }

    /// Fails the receipt of a reply, and notes whether the sink's own topic is gone.
    pub(super) fn fail(&self, delivery: Delivery, error: &KafkaError) {
        if !delivery.asked && is_unknown_topic(error) {
            // Pairs with the load in `topic_is_gone`: the failure of the receipt may lead to an
            // error reply, whose sender sees this.
            self.topic_is_gone.store(true, Ordering::Release);
        }
        delivery.fail(error);
    }

    /// Whether the sink's own topic existed when the sink connected, and does not exist any more.
    pub(super) fn topic_is_gone(&self) -> bool {
        // Pairs with the stores in `fail` and in `delivery`.
        self.topic_is_gone.load(Ordering::Acquire)
    }

    pub(super) fn outstanding(&self) -> usize {
        // Pairs with the read-modify-writes in `begin` and `Count::fall`.
        self.count.outstanding.load(Ordering::Acquire)
    }

    /// Waits until a delivery has made room in librdkafka's queue.
    pub(super) async fn room(&self) {
        // librdkafka frees a record's slot in the queue a moment after it reports the delivery. If
        // that was the last report for now, the timeout makes the caller try again.
        const FREED: Duration = Duration::from_millis(2);
        tokio::time::timeout(FREED, self.count.fell.notified()).await.ok();
    }

    /// Waits until no delivery is outstanding.
    pub(super) async fn all(&self) {
        while self.outstanding() > 0 {
            self.count.fell.notified().await;
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.connections.log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.connections.update_from(json);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        crate::log::error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        match result {
            Ok(_) => {
                if !delivery.asked && self.topic_is_gone() {
                    self.topic_is_gone.store(false, Ordering::Release);
                }
                delivery.done();
            }
            Err((error, message)) => match error.rdkafka_error_code() {
                // librdkafka reports these codes when the sink was dropped.
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                    delivery.abandon();
                }
                Some(RDKafkaErrorCode::Fatal) => self.fail(*delivery, error),
                _ if delivery.asked && delivery.kind == ReplyKind::Error => {
                    self.keep(delivery, message);
                }
                _ => self.fail(*delivery, error),
            },
        }
    }
}

/// Whether an error says that a topic does not exist.
pub(crate) fn is_unknown_topic(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}

/// A producer, and the thread that polls it for as long as this value lives.
pub(super) struct PollThread {
    producer: Arc<BaseProducer<Deliveries>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    pub(super) fn start(config: &ClientConfig, topic: Arc<str>) -> Result<Self, Error> {
        // Maximum time until the thread sees `stop`. Confirmations are served as they arrive.
        const POLL: Duration = Duration::from_millis(100);
        let mut config = config.clone();
        Connections::report(&mut config);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|error| Error::Configure(error.into()))?;
        let producer = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let polled = Arc::clone(&producer);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || {
                // Pairs with the store in `drop`.
                while !stopped.load(Ordering::Acquire) {
                    polled.poll(POLL);
                    polled.context().send_again(&polled, &topic);
                }
                tracing::debug!(%topic, "sink closed");
            })
            .map_err(Error::Thread)?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }

    pub(super) fn producer(&self) -> &BaseProducer<Deliveries> {
        &self.producer
    }

    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for PollThread {
    /// Stops the thread. Dropping the producer then purges the replies that are not confirmed,
    /// which abandons their receipts.
    fn drop(&mut self) {
        // Pairs with the load in the thread.
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

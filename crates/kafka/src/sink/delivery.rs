//! Deliveries: what was sent and is not confirmed, and the thread on which librdkafka confirms it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::Error;

/// A reply on its way, and the receipt that waits for it. Travels through librdkafka and back.
pub(super) struct Delivery {
    receipt: Receipt,
    topic: Arc<str>,
    // Whether the request chose the place.
    asked: bool,
    kind: ReplyKind,
    count: Arc<Count>,
}

/// How many replies are on their way.
#[derive(Default)]
struct Count {
    outstanding: AtomicUsize,
    fell: Notify,
}

impl Delivery {
    fn done(self) {
        let Self { receipt, count, .. } = self;
        receipt.done();
        count.fall();
    }

    /// Fails the receipt: this reply will not be written.
    pub(super) fn fail(self, error: &KafkaError) {
        let Self { receipt, topic, asked, count, .. } = self;
        let code = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => "reply_too_large",
            Some(code) if asked => reply_targets::refused(code).unwrap_or("delivery_failed"),
            _ => "delivery_failed",
        };
        let cause =
            error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let message = format_args!("the reply was not written to {topic}: {cause}");
        let failure = Failure::new(code, message);
        // What the brokers refuse they refuse again.
        let passes = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
        receipt.fail(if passes { failure.transient() } else { failure });
        count.fall();
    }

    /// Leaves the receipt without an outcome: whether this reply is written is not known.
    pub(super) fn abandon(self) {
        let Self { receipt, count, .. } = self;
        drop(receipt);
        count.fall();
    }
}

impl Count {
    fn fall(&self) {
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        // One sink waits at most, and finds the permit if it comes later.
        self.fell.notify_one();
    }
}

/// librdkafka's side of a sink.
#[derive(Default)]
pub(super) struct Deliveries {
    count: Arc<Count>,
    // Error replies that could not be written where their requests asked for them.
    again: Mutex<Vec<(Box<Delivery>, OwnedMessage)>>,
}

impl Deliveries {
    pub(super) fn begin(&self, receipt: Receipt, place: &ReplyTarget, kind: ReplyKind) -> Delivery {
        self.count.outstanding.fetch_add(1, Ordering::AcqRel);
        let (topic, count) = (Arc::clone(&place.topic), Arc::clone(&self.count));
        Delivery { receipt, topic, asked: place.asked, kind, count }
    }

    fn keep(&self, delivery: Box<Delivery>, message: &BorrowedMessage<'_>) {
        self.again
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((delivery, message.detach()));
    }

    /// Writes what was [kept](Self::keep) to the sink's own topic.
    fn send_again(&self, producer: &BaseProducer<Self>, own: &Arc<str>) {
        let again = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
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
                    let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
                    again.push((delivery, message));
                } else {
                    delivery.fail(&error);
                }
            }
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.count.outstanding.load(Ordering::Acquire)
    }

    /// Waits until a delivery has made room.
    pub(super) async fn room(&self) {
        // librdkafka frees a record's place a moment after it reports the delivery. Should that have been the last
        // report for now, this looks again by itself.
        const FREED: Duration = Duration::from_millis(2);
        tokio::time::timeout(FREED, self.count.fell.notified()).await.ok();
    }

    /// Waits until nothing is outstanding.
    pub(super) async fn all(&self) {
        while self.outstanding() > 0 {
            self.count.fell.notified().await;
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        crate::log::error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        match result {
            Ok(_) => delivery.done(),
            Err((error, message)) => match error.rdkafka_error_code() {
                // The sink was dropped.
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                    delivery.abandon();
                }
                Some(RDKafkaErrorCode::Fatal) => delivery.fail(error),
                _ if delivery.asked && delivery.kind == ReplyKind::Error => {
                    self.keep(delivery, message);
                }
                _ => delivery.fail(error),
            },
        }
    }
}

/// The producer, and the thread that polls it for as long as this value lives.
pub(super) struct PollThread {
    producer: Arc<BaseProducer<Deliveries>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    pub(super) fn start(config: &ClientConfig, topic: Arc<str>) -> Result<Self, Error> {
        // Confirmations are served as they come; this is how soon the thread sees that it has to stop.
        const POLL: Duration = Duration::from_millis(100);
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
    /// The producer's own drop then gives up what is not confirmed, which abandons its receipts.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

//! Deliveries: what was sent and is not confirmed, and the thread on which librdkafka confirms it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay_stream::{Failure, Receipt};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use tokio::sync::Notify;

use crate::Error;

/// A reply on its way, and the receipt that waits for it. Travels through librdkafka and back.
pub(super) struct Delivery {
    receipt: Receipt,
    topic: Arc<str>,
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
        let Self { receipt, topic, count } = self;
        let (code, cause) = match error.rdkafka_error_code() {
            Some(code @ RDKafkaErrorCode::MessageSizeTooLarge) => {
                ("reply_too_large", code.to_string())
            }
            Some(code) => ("delivery_failed", code.to_string()),
            None => ("delivery_failed", error.to_string()),
        };
        let failure =
            Failure::new(code, format_args!("the reply was not written to {topic}: {cause}"));
        receipt.fail(failure);
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
}

impl Deliveries {
    pub(super) fn begin(&self, receipt: Receipt, topic: &Arc<str>) -> Delivery {
        self.count.outstanding.fetch_add(1, Ordering::AcqRel);
        Delivery { receipt, topic: Arc::clone(topic), count: Arc::clone(&self.count) }
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
            Err((error, _)) => match error.rdkafka_error_code() {
                // The sink was dropped.
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                    delivery.abandon();
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

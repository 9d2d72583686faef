//! `Producer`: a producer that writes in transactions.

use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use tokio::time::Instant;

use crate::connections::Connections;

pub(in crate::source) type Producer = ThreadedProducer<Written>;

/// How long a producer waits for its coordinator before another is created.
pub(super) const INIT: Duration = Duration::from_secs(30);

/// Creates a producer, which fences every other with the same id. Blocks for at most [`INIT`].
pub(super) fn create(client: &ClientConfig) -> KafkaResult<Producer> {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut client = client.clone();
    Connections::report(&mut client);
    let producer: Producer = client.create_with_context(Written::default())?;
    let deadline = Instant::now() + INIT;
    loop {
        match producer.init_transactions(deadline.saturating_duration_since(Instant::now())) {
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                thread::park_timeout(PAUSE);
            }
            done => return done.map(|()| producer),
        }
    }
}

/// The context of a producer: keeps the first reply of the open transaction that could not be
/// written.
#[derive(Default)]
pub(in crate::source) struct Written {
    failure: Mutex<Option<Unwritten>>,
    connections: Connections,
}

/// The error of a reply that was not written, and the reply's number.
pub(super) type Unwritten = (KafkaError, usize);

impl Written {
    pub(super) fn failed(&self, error: KafkaError, number: usize) {
        self.failure.lock().get_or_insert((error, number));
    }

    pub(super) fn first_failure(&self) -> Option<Unwritten> {
        self.failure.lock().clone()
    }

    pub(super) fn reset(&self) {
        *self.failure.lock() = None;
    }
}

impl ClientContext for Written {
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

impl ProducerContext for Written {
    type DeliveryOpaque = usize;

    /// Runs for failed deliveries only (`delivery.report.only.error`).
    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Err((error, _)) = result {
            self.failed(error.clone(), number);
        }
    }
}

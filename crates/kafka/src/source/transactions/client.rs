//! `Client`: the producer of one worker, with calls that do not hang unnoticed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::time::Instant;

use super::job::Job;
use super::open::Open;
use super::producer::{self, INIT, Producer, Unwritten};
use super::txn_error::TxnError;
use crate::source::lists::offset_list;
use crate::source::staged::Output;

/// How long a call that failed waits before it is repeated.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// How often outstanding deliveries are checked.
const DELIVERY_INTERVAL: Duration = Duration::from_micros(200);
/// Time that a call may take beyond its own timeout before its worker is replaced.
const GRACE: Duration = Duration::from_secs(5);

/// The producer of one generation. The poll thread watches every blocking call, and replaces the
/// worker whose call does not return. After that, every method returns [`TxnError::Over`].
pub(super) struct Client {
    job: Arc<Job>,
    generation: u64,
    producer: Option<Producer>,
}

impl Client {
    pub(super) fn new(job: Arc<Job>, generation: u64, producer: Option<Producer>) -> Self {
        Self { job, generation, producer }
    }

    pub(super) fn has_producer(&self) -> bool {
        self.producer.is_some()
    }

    /// Whether this worker has to end.
    pub(super) fn is_over(&self) -> bool {
        self.job.state.lock().is_over(self.generation)
    }

    pub(super) fn is_replaced(&self) -> bool {
        !self.job.state.lock().is_current(self.generation)
    }

    /// Asks the poll thread to rewind the partitions. Returns whether the worker is still the
    /// current one.
    pub(super) fn request_rewind(&self) -> bool {
        self.job.state.lock().request_rewind(self.generation)
    }

    pub(super) fn begin(&self) -> Result<(), TxnError> {
        Ok(self.producer()?.begin_transaction()?)
    }

    /// Produces the reply with this number, which identifies it if it is not written.
    pub(super) fn produce(&self, number: usize, output: &Output) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&output.target.topic, number);
        record.key = output.meta.key.as_deref();
        record.payload = output.reply.value.as_deref();
        record.partition = output.target.partition;
        record.headers = output.headers();
        let mut deadline = None;
        while let Err((error, back)) = producer.send(record) {
            let deadline = *deadline.get_or_insert(Instant::now() + self.job.timeout);
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull)
                || Instant::now() >= deadline
            {
                producer.context().failed(error.clone(), number);
                return Err(error.into());
            }
            if self.is_over() {
                return Err(TxnError::Over);
            }
            record = back;
            thread::park_timeout(CHECK_INTERVAL);
        }
        Ok(())
    }

    /// Returns the first reply of the open transaction that was not written.
    pub(super) fn first_failure(&self) -> Result<Option<Unwritten>, TxnError> {
        Ok(self.producer()?.context().first_failure())
    }

    /// Waits until every reply of the open transaction is delivered.
    pub(super) fn await_deliveries(&self, open: Option<&Open>) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let deadline = Instant::now() + self.job.timeout;
        loop {
            // Read before the failure, because librdkafka reports a failure before it counts the
            // record as delivered.
            let outstanding = producer.in_flight_count();
            if let Some((error, _)) = producer.context().first_failure() {
                return Err(self.cause(open, error));
            }
            match outstanding {
                0 => return Ok(()),
                _ if self.is_replaced() => return Err(TxnError::Over),
                _ if Instant::now() >= deadline => {
                    return Err(TxnError::Abort(KafkaError::Flush(
                        RDKafkaErrorCode::OperationTimedOut,
                    )));
                }
                _ => thread::park_timeout(DELIVERY_INTERVAL),
            }
        }
    }

    /// Returns the cause of a reply that was not written. If a transaction fails as a whole,
    /// librdkafka purges the records that are not sent, and only the next call returns the reason.
    pub(super) fn cause(&self, open: Option<&Open>, error: KafkaError) -> TxnError {
        let dropped = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        );
        if dropped
            && let Some(open) = open
            && let Some(group) = self.job.group_metadata()
            && let Err(error) = self.send_offsets(open, &group)
        {
            return error;
        }
        error.into()
    }

    pub(super) fn send_offsets(
        &self,
        open: &Open,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TxnError> {
        let offsets = open.parts.iter().map(|part| (part.assignment.partition, part.position));
        let offsets = offset_list(&self.job.core.topic, offsets);
        let timeout = self.job.timeout;
        self.retry("send_offsets_to_transaction", |producer| {
            producer.send_offsets_to_transaction(&offsets, group, timeout)
        })
    }

    pub(super) fn commit(&self) -> Result<(), TxnError> {
        let timeout = self.job.timeout;
        self.retry("commit_transaction", |producer| producer.commit_transaction(timeout))
    }

    pub(super) fn abort(&self) -> Result<(), TxnError> {
        let timeout = self.job.timeout;
        self.retry("abort_transaction", |producer| {
            match producer.abort_transaction(timeout) {
                // There is nothing to abort, because the transaction had not begun.
                Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::State => {
                    Ok(())
                }
                done => done,
            }
        })?;
        // The producer's own thread still reports undelivered replies as failures. They must not
        // count for the next transaction.
        let producer = self.producer()?;
        let deadline = Instant::now() + timeout;
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::park_timeout(DELIVERY_INTERVAL);
        }
        producer.context().reset();
        Ok(())
    }

    /// Aborts the last transaction of a worker that ends. Tries once.
    pub(super) fn abort_at_end(&self) -> Result<(), TxnError> {
        self.call("abort_transaction", GRACE, |producer| producer.abort_transaction(GRACE))
    }

    /// Drops the producer on another thread, because that may take long.
    pub(super) fn discard(&mut self) {
        if let Some(producer) = self.producer.take() {
            thread::Builder::new()
                .name("kafka-transactions-end".to_owned())
                .spawn(move || drop(producer))
                .ok();
        }
    }

    /// Creates a new producer. It fences the old one, which ends the old transaction, committed or
    /// aborted.
    pub(super) fn create_producer(&mut self) -> Result<(), TxnError> {
        let until = Instant::now() + INIT + GRACE;
        self.job.state.lock().begin_call(self.generation, "init_transactions", until);
        let created = producer::create(&self.job.producer_config());
        self.job.state.lock().end_call(self.generation);
        self.producer = Some(created?);
        Ok(())
    }

    /// Repeats a call while its error is retriable and the transaction's timeout has not passed.
    fn retry(
        &self,
        what: &'static str,
        call: impl Fn(&Producer) -> KafkaResult<()>,
    ) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.job.timeout;
        loop {
            match self.call(what, self.job.timeout, &call) {
                Err(TxnError::Retry(error)) if Instant::now() < deadline => {
                    tracing::debug!(%error, "{what} is repeated");
                    thread::park_timeout(CHECK_INTERVAL);
                }
                // The last attempt failed too. The outcome of the call is unknown, so a new
                // producer has to take over.
                Err(TxnError::Retry(error)) => return Err(TxnError::Rebuild(error)),
                done => return done,
            }
        }
    }

    /// Makes one blocking call, which the poll thread watches.
    fn call(
        &self,
        what: &'static str,
        timeout: Duration,
        call: impl Fn(&Producer) -> KafkaResult<()>,
    ) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let until = Instant::now() + timeout + GRACE;
        self.job.state.lock().begin_call(self.generation, what, until);
        let done = call(producer);
        if !self.job.state.lock().end_call(self.generation) {
            return Err(TxnError::Over);
        }
        Ok(done?)
    }

    fn producer(&self) -> Result<&Producer, TxnError> {
        self.producer.as_ref().ok_or(TxnError::Over)
    }
}

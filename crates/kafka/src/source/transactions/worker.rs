//! `Worker`: the thread that writes transactions.
//!
//! Transitions:
//!
//! - idle (a producer, and `open` is `None`) to open: `turn` finds a position to commit.
//! - open to idle: the transaction is committed, after `commit_interval`, for a flush, or because
//!   it is large.
//! - open to open: during a rebalance, `commit` aborts and writes the same replies again.
//! - idle or open to idle: after an error, `recover` voids everything in flight and aborts.
//! - idle or open to no producer: after an error, `recover` voids everything in flight and discards
//!   the producer.
//! - no producer to idle: `rebuild` has created a producer, which has fenced the old one.
//! - any to ended: the source stops, or the poll thread has replaced this worker.

use parking_lot::Mutex;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use forebay_stream::Failure;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::time::Instant;

use super::Transactions;
use super::txn_error::{TxnError, is_rebalance, record_failure_code};
use crate::Error;
use crate::error::ClientError;
use crate::source::assignment::{Assignment, Committable};
use crate::source::lists::offset_list;
use crate::source::staged::Output;

/// How often the worker looks for more replies to write while a transaction is open, and how long
/// it waits before it repeats a call that failed.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// How often outstanding deliveries are checked.
const DELIVERY_INTERVAL: Duration = Duration::from_micros(200);
/// The longest time that an idle worker sleeps, in case a wake-up is lost; also the pause before a
/// transaction or a producer is tried again.
const BACKSTOP: Duration = Duration::from_millis(100);
/// Time that a call may take beyond its own timeout before its worker is replaced.
const GRACE: Duration = Duration::from_secs(5);

pub(in crate::source) type Producer = ThreadedProducer<Written>;

pub(super) struct Worker {
    transactions: Arc<Transactions>,
    generation: u64,
    producer: Option<Producer>,
    open: Option<Open>,
    // When the last transaction began.
    begun: Option<Instant>,
    // When another producer with the same id last fenced this one.
    fenced: Option<Instant>,
    // Number of failures since the last commit, for the backoff.
    failures: u32,
}

/// An open transaction.
struct Open {
    since: Instant,
    // The positions to commit.
    parts: Vec<Part>,
    // The replies that were produced, in this order: to produce them again, and to identify one
    // that could not be written.
    replies: Vec<StagedReply>,
    // Size of the requests and their replies.
    bytes: usize,
}

/// An assignment in a transaction, and its position to commit.
struct Part {
    assignment: Arc<Assignment>,
    position: i64,
}

/// A reply, with the partition and offset of its request.
pub(super) struct StagedReply {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) output: Output,
}

impl Open {
    fn new() -> Self {
        Self { since: Instant::now(), parts: Vec::new(), replies: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, assignment: Arc<Assignment>, ready: Committable) {
        let Committable { position, bytes, outputs } = ready;
        let partition = assignment.partition;
        let replies = outputs.into_iter();
        self.replies.extend(replies.map(|(offset, output)| StagedReply {
            partition,
            offset,
            output,
        }));
        self.bytes += bytes;
        match self.parts.iter_mut().find(|part| Arc::ptr_eq(&part.assignment, &assignment)) {
            Some(part) => part.position = position,
            None => self.parts.push(Part { assignment, position }),
        }
    }
}

impl Worker {
    pub(super) fn new(
        transactions: Arc<Transactions>,
        generation: u64,
        producer: Option<Producer>,
    ) -> Self {
        Self {
            transactions,
            generation,
            producer,
            open: None,
            begun: None,
            fenced: None,
            failures: 0,
        }
    }

    /// Writes transactions until the source ends or this worker is replaced.
    pub(super) fn run(mut self) {
        while !self.is_over() {
            // Called before the thread looks for work, so that work added later wakes it. Pairs
            // with the swap in `Wake::wake`. While a transaction is open, the thread looks for work
            // at short intervals, so settled records need not wake it.
            self.transactions.core.writer.set_asleep(self.open.is_none());
            let flush = self.transactions.state.lock().requested_flush();
            let turned = match self.producer {
                Some(_) => self.turn(flush),
                None => self.rebuild(),
            };
            if let Err(error) = turned {
                self.recover(error);
            }
            if self.transactions.state.lock().complete_flush(self.generation, flush) {
                self.transactions.core.poller.wake();
            }
            if self.open.is_some() {
                thread::park_timeout(CHECK_INTERVAL);
            } else if self.transactions.core.writer.is_asleep() {
                thread::park_timeout(BACKSTOP);
            }
            // Otherwise `Wake::wake` was called during this turn, so there is new work. Its unpark
            // may already have ended another wait of this turn, so the thread must not park here.
        }
        self.end();
    }

    fn is_over(&self) -> bool {
        self.transactions.state.lock().is_over(self.generation)
    }

    fn is_replaced(&self) -> bool {
        !self.transactions.state.lock().is_current(self.generation)
    }

    /// Aborts an open transaction.
    fn end(mut self) {
        if self.open.take().is_some()
            && let Err(error) =
                self.call("abort_transaction", GRACE, |p| p.abort_transaction(GRACE))
        {
            tracing::debug!(
                ?error,
                "the last transaction was not aborted; the brokers abort it after its timeout"
            );
        }
        self.transactions.state.lock().end(self.generation);
        self.transactions.ended.notify_all();
    }

    /// Produces the replies that can be written, and commits the open transaction when it is due.
    fn turn(&mut self, flush: u64) -> Result<(), TxnError> {
        for assignment in self.transactions.core.ledger.assignments() {
            if let Some(ready) = assignment.take_ready() {
                self.write(assignment, ready)?;
            }
        }
        if let Some((error, _)) = self.written()?.first_failure() {
            return Err(self.cause(error));
        }
        let Some(open) = &self.open else { return Ok(()) };
        let flushing = !self.transactions.state.lock().is_flushed(flush);
        if flushing
            || open.since.elapsed() >= self.transactions.commit_interval
            || self.transactions.core.ledger.must_commit(open.bytes)
        {
            self.commit()?;
        }
        Ok(())
    }

    /// Commits the open transaction. During a rebalance the group refuses offsets. Then, as long as
    /// the partitions stay assigned, the same replies are written again in another transaction.
    fn commit(&mut self) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.transactions.timeout / 2;
        loop {
            match self.try_commit() {
                Err(TxnError::Abort(error))
                    if is_rebalance(&error) && Instant::now() < deadline =>
                {
                    tracing::debug!(%error, "the group is rebalancing, the transaction is written again");
                    self.abort()?;
                    thread::park_timeout(BACKSTOP);
                    if self.is_over() {
                        return Err(TxnError::Over);
                    }
                    self.write_again()?;
                }
                done => return done,
            }
        }
    }

    fn write_again(&mut self) -> Result<(), TxnError> {
        let Some(open) = &self.open else { return Ok(()) };
        if open.parts.iter().any(|part| part.assignment.is_fenced()) {
            return Err(TxnError::Lost);
        }
        self.begin()?;
        self.produce_from(0)
    }

    fn write(&mut self, assignment: Arc<Assignment>, ready: Committable) -> Result<(), TxnError> {
        if self.open.is_none() {
            self.begin()?;
        }
        let open = self.open.get_or_insert_with(Open::new);
        let first = open.replies.len();
        open.add(assignment, ready);
        self.produce_from(first)
    }

    fn begin(&mut self) -> Result<(), TxnError> {
        self.begun = Some(Instant::now());
        Ok(self.producer()?.begin_transaction()?)
    }

    /// Produces the replies of the open transaction from number `first` on.
    fn produce_from(&self, first: usize) -> Result<(), TxnError> {
        let Some(open) = &self.open else { return Ok(()) };
        for (number, reply) in open.replies.iter().enumerate().skip(first) {
            self.produce(number, &reply.output)?;
        }
        Ok(())
    }

    fn produce(&self, number: usize, output: &Output) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&output.target.topic, number);
        record.key = output.meta.key.as_deref();
        record.payload = output.reply.value.as_deref();
        record.partition = output.target.partition;
        record.headers = output.headers();
        let mut deadline = None;
        while let Err((error, back)) = producer.send(record) {
            let deadline = *deadline.get_or_insert(Instant::now() + self.transactions.timeout);
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

    /// Commits the open transaction once. Waits for the deliveries first, because librdkafka's own
    /// wait for them is slow.
    fn try_commit(&mut self) -> Result<(), TxnError> {
        self.await_deliveries()?;
        let Some(open) = &self.open else { return Ok(()) };
        let consumer = self.transactions.consumer.lock().clone().ok_or(TxnError::Over)?;
        // The group's metadata is read before the partitions are checked. If a partition is lost
        // after the check, the metadata is out of date, and the brokers refuse the offsets.
        let group = consumer.group_metadata().ok_or(TxnError::Lost)?;
        if open.parts.iter().any(|part| part.assignment.is_fenced()) {
            return Err(TxnError::Lost);
        }
        self.send_offsets(open, &group)?;
        let timeout = self.transactions.timeout;
        self.retry("commit_transaction", |producer| producer.commit_transaction(timeout))?;
        for Part { assignment, position } in self.open.take().into_iter().flat_map(|o| o.parts) {
            let moved = self.transactions.core.ledger.mark_committed(&assignment, position);
            self.transactions.core.wake_for(moved);
            self.transactions.committed(assignment.partition, position);
        }
        self.failures = 0;
        self.transactions.state.lock().commit(self.generation);
        Ok(())
    }

    fn send_offsets(&self, open: &Open, group: &ConsumerGroupMetadata) -> Result<(), TxnError> {
        let offsets = open.parts.iter().map(|part| (part.assignment.partition, part.position));
        let offsets = offset_list(&self.transactions.core.topic, offsets);
        let timeout = self.transactions.timeout;
        self.retry("send_offsets_to_transaction", |producer| {
            producer.send_offsets_to_transaction(&offsets, group, timeout)
        })
    }

    fn await_deliveries(&self) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let deadline = Instant::now() + self.transactions.timeout;
        loop {
            // Read before the failure, because librdkafka reports a failure before it counts the
            // record as delivered.
            let outstanding = producer.in_flight_count();
            if let Some((error, _)) = producer.context().first_failure() {
                return Err(self.cause(error));
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
    fn cause(&self, error: KafkaError) -> TxnError {
        let dropped = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        );
        let consumer = self.transactions.consumer.lock().clone();
        if dropped
            && let Some(open) = &self.open
            && let Some(group) = consumer.and_then(|consumer| consumer.group_metadata())
            && let Err(error) = self.send_offsets(open, &group)
        {
            return error;
        }
        error.into()
    }

    /// Repeats a call while its error is retriable and the transaction's timeout has not passed.
    fn retry(
        &self,
        what: &'static str,
        call: impl Fn(&Producer) -> KafkaResult<()>,
    ) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.transactions.timeout;
        loop {
            match self.call(what, self.transactions.timeout, &call) {
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
        self.transactions.state.lock().begin_call(self.generation, what, until);
        let done = call(producer);
        if !self.transactions.state.lock().end_call(self.generation) {
            return Err(TxnError::Over);
        }
        Ok(done?)
    }

    /// Reacts to an error. The source ends after a permanent error, and if another producer with
    /// the same id has fenced this one twice within a minute. Otherwise everything in flight is
    /// voided, the transaction is aborted or left to a new producer, and the partitions are
    /// rewound.
    fn recover(&mut self, error: TxnError) {
        if matches!(error, TxnError::Over) || self.is_replaced() {
            return;
        }
        if let TxnError::GiveUp(error) = error {
            return self.give_up(error);
        }
        tracing::warn!(id = %self.transactions.id, %error, "a transaction failed, its requests are read again");
        self.transactions.void();
        self.note_poison();
        self.open = None;
        let ended = match error {
            TxnError::Rebuild(_) => Err(error),
            _ => self.abort(),
        };
        match ended {
            Ok(()) => {
                if !self.transactions.state.lock().request_rewind(self.generation) {
                    return;
                }
            }
            _ if self.is_replaced() => return,
            Err(error) if error.is_fenced() && self.is_young() && self.was_fenced_before() => {
                let id = self.transactions.id.clone();
                return self.transactions.core.fail(Error::Fenced { id });
            }
            Err(error) => {
                tracing::warn!(id = %self.transactions.id, ?error, "a new producer takes over");
                self.discard();
            }
        }
        self.back_off();
    }

    fn abort(&self) -> Result<(), TxnError> {
        let timeout = self.transactions.timeout;
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

    /// Drops the producer on another thread, because that may take long.
    fn discard(&mut self) {
        if let Some(producer) = self.producer.take() {
            thread::Builder::new()
                .name("kafka-transactions-end".to_owned())
                .spawn(move || drop(producer))
                .ok();
        }
    }

    /// Creates a new producer. It fences the old one, which ends the old transaction, committed or
    /// aborted.
    fn rebuild(&mut self) -> Result<(), TxnError> {
        match self.transactions.watched_producer(self.generation) {
            Ok(producer) => {
                if !self.transactions.state.lock().request_rewind(self.generation) {
                    return Err(TxnError::Over);
                }
                tracing::info!(id = %self.transactions.id, "a new producer has taken over");
                self.producer = Some(producer);
                Ok(())
            }
            Err(error) => match TxnError::from(error) {
                TxnError::GiveUp(error) => Err(TxnError::GiveUp(error)),
                error => {
                    tracing::warn!(?error, "no new producer yet, it is tried again");
                    self.back_off();
                    Ok(())
                }
            },
        }
    }

    /// Ends the source with an error that repeating cannot fix.
    fn give_up(&self, error: KafkaError) {
        self.transactions.void();
        let topic = self.transactions.topic();
        let source = error.into();
        self.transactions.core.fail(Error::Transaction { topic, source });
    }

    /// Notes the reply that the brokers refused, if the transaction failed because of one.
    fn note_poison(&self) {
        let (Ok(written), Some(open)) = (self.written(), &self.open) else { return };
        if let Some((error, number)) = written.first_failure()
            && let Some(code) = record_failure_code(&error)
            && let Some(reply) = open.replies.get(number)
        {
            let message = format_args!("the reply was not written: {}", ClientError::from(error));
            self.transactions.poisoned(reply, Failure::new(code, message));
        }
    }

    /// Whether the last transaction is too young for the brokers to have ended it by its timeout.
    fn is_young(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() < self.transactions.timeout)
    }

    /// Whether another producer fenced this one for the second time within a minute. Two instances
    /// with one id keep fencing each other.
    fn was_fenced_before(&mut self) -> bool {
        const LIMIT: Duration = Duration::from_mins(1);
        let before = self.fenced.replace(Instant::now());
        before.is_some_and(|at| at.elapsed() < LIMIT)
    }

    /// Waits before the next attempt, twice as long after each failure in a row.
    fn back_off(&mut self) {
        const MAX_DOUBLINGS: u32 = 6;
        let pause = Duration::from_millis(50) * 2_u32.pow(self.failures.min(MAX_DOUBLINGS));
        self.failures += 1;
        let until = Instant::now() + pause;
        while !self.is_over() && Instant::now() < until {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    fn producer(&self) -> Result<&Producer, TxnError> {
        self.producer.as_ref().ok_or(TxnError::Over)
    }

    fn written(&self) -> Result<&Written, TxnError> {
        Ok(self.producer()?.context())
    }
}

impl Transactions {
    /// Creates a producer, which fences every other with the same id. Blocks.
    pub(super) fn producer(&self) -> Result<Producer, Error> {
        self.open_producer(INIT)
            .map_err(|error| Error::Transaction { topic: self.topic(), source: error.into() })
    }

    fn open_producer(&self, timeout: Duration) -> KafkaResult<Producer> {
        let mut client = self.client.clone();
        if let Some(size) = &self.batch_size {
            client.set("batch.size", size);
        }
        let producer: Producer = client.create_with_context(Written::default())?;
        let deadline = Instant::now() + timeout;
        loop {
            match producer.init_transactions(deadline.saturating_duration_since(Instant::now())) {
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && Instant::now() < deadline =>
                {
                    thread::park_timeout(BACKSTOP);
                }
                done => return done.map(|()| producer),
            }
        }
    }

    /// Creates a producer in a call that the poll thread watches.
    fn watched_producer(&self, generation: u64) -> KafkaResult<Producer> {
        let until = Instant::now() + INIT + GRACE;
        self.state.lock().begin_call(generation, "init_transactions", until);
        let producer = self.open_producer(INIT);
        self.state.lock().end_call(generation);
        producer
    }
}

/// How long a producer waits for its coordinator before another is created.
const INIT: Duration = Duration::from_secs(30);

/// The context of a producer: keeps the first reply of the open transaction that could not be
/// written.
#[derive(Default)]
pub(in crate::source) struct Written(Mutex<Option<Unwritten>>);

/// The error of a reply that was not written, and the reply's number.
type Unwritten = (KafkaError, usize);

impl Written {
    fn failed(&self, error: KafkaError, number: usize) {
        self.0.lock().get_or_insert((error, number));
    }

    fn first_failure(&self) -> Option<Unwritten> {
        self.0.lock().clone()
    }

    fn reset(&self) {
        *self.0.lock() = None;
    }
}

impl ClientContext for Written {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

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

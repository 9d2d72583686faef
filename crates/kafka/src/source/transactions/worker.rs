//! `Worker`: the thread that writes transactions.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
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
use super::txn_error::{TxnError, is_of_the_group, of_the_record};
use crate::Error;
use crate::error::ClientError;
use crate::source::assignment::{Assignment, Committable};
use crate::source::group::offset_list;
use crate::source::shared::lock;
use crate::source::staged::Output;

/// How often an open transaction looks for more to write.
const LOOK: Duration = Duration::from_millis(2);
/// How often deliveries are looked for.
const SOON: Duration = Duration::from_micros(200);
/// How long nothing to do lasts if a wake-up were lost.
const BACKSTOP: Duration = Duration::from_millis(100);
/// What a call is given beyond its own timeout before it is given up.
const GRACE: Duration = Duration::from_secs(5);

pub(in crate::source) type Producer = ThreadedProducer<Written>;

pub(super) struct Worker {
    transactions: Arc<Transactions>,
    generation: u64,
    producer: Option<Producer>,
    open: Option<Open>,
    // When the last transaction was begun.
    begun: Option<Instant>,
    // When this id was last shut out by another.
    fenced: Option<Instant>,
    failures: u32,
}

/// A transaction under way.
struct Open {
    since: Instant,
    // What it commits.
    parts: Vec<Part>,
    // What has been produced, in this order: for another try, and to name what could not be written.
    answers: Vec<StagedReply>,
    // What all that weighs.
    bytes: usize,
}

struct Part {
    assignment: Arc<Assignment>,
    position: i64,
}

/// An output, and the input that it answers.
pub(super) struct StagedReply {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) output: Output,
}

impl Open {
    fn new() -> Self {
        Self { since: Instant::now(), parts: Vec::new(), answers: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, assignment: Arc<Assignment>, ready: Committable) {
        let Committable { position, bytes, outputs } = ready;
        let partition = assignment.partition;
        let answers = outputs.into_iter();
        self.answers.extend(answers.map(|(offset, output)| StagedReply {
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

    /// Writes until the source ends, or this worker is given up.
    pub(super) fn run(mut self) {
        while !self.is_over() {
            // Before looking for work: whoever has some from here on wakes this thread. An open transaction looks for
            // it by itself, so that not every answer has to.
            self.transactions.asleep.store(self.open.is_none(), Ordering::SeqCst);
            let flush = self.transactions.flush.load(Ordering::Acquire);
            let turned = match self.producer {
                Some(_) => self.turn(flush),
                None => self.rebuild(),
            };
            if let Err(error) = turned {
                self.recover(error);
            }
            if !self.is_given_up() {
                self.transactions.flushed.fetch_max(flush, Ordering::AcqRel);
                self.transactions.shared.wake();
            }
            if self.open.is_some() {
                thread::park_timeout(LOOK);
            } else if self.transactions.asleep.load(Ordering::SeqCst) {
                thread::park_timeout(BACKSTOP);
            }
            // Else there was something to do meanwhile, and the wake-up may have ended a wait within this turn.
        }
        self.end();
    }

    fn is_over(&self) -> bool {
        self.transactions.stopped.load(Ordering::Acquire) || self.is_given_up()
    }

    fn is_given_up(&self) -> bool {
        self.transactions.generation.load(Ordering::Acquire) != self.generation
    }

    fn end(mut self) {
        if self.open.take().is_some()
            && let Err(error) =
                self.call("abort_transaction", GRACE, |p| p.abort_transaction(GRACE))
        {
            tracing::debug!(?error, "the last transaction is left to its timeout");
        }
        if !self.is_given_up() {
            self.transactions.ended.store(true, Ordering::Release);
        }
    }

    /// Produces what can be written, and commits where it is time to.
    fn turn(&mut self, flush: u64) -> Result<(), TxnError> {
        for assignment in self.transactions.shared.assignments() {
            if let Some(ready) = assignment.take_ready() {
                self.write(assignment, ready)?;
            }
        }
        if let Some((error, _)) = self.written()?.first_failure() {
            return Err(self.cause(error));
        }
        let Some(open) = &self.open else { return Ok(()) };
        let flushing = flush > self.transactions.flushed.load(Ordering::Acquire);
        if flushing
            || open.since.elapsed() >= self.transactions.commit_interval
            || self.transactions.shared.waits_for(open.bytes)
        {
            self.commit()?;
        }
        Ok(())
    }

    /// Commits the open transaction. Between two generations of a group its members' offsets are refused; as long as
    /// the partitions stay, the same is written in another transaction.
    fn commit(&mut self) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.transactions.timeout / 2;
        loop {
            match self.try_commit() {
                Err(TxnError::Abort(error))
                    if is_of_the_group(&error) && Instant::now() < deadline =>
                {
                    tracing::debug!(%error, "the group is changing, the transaction is written again");
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
        let first = open.answers.len();
        open.add(assignment, ready);
        self.produce_from(first)
    }

    fn begin(&mut self) -> Result<(), TxnError> {
        self.begun = Some(Instant::now());
        Ok(self.producer()?.begin_transaction()?)
    }

    /// Produces what the open transaction has from its answer number `first` on.
    fn produce_from(&self, first: usize) -> Result<(), TxnError> {
        let Some(open) = &self.open else { return Ok(()) };
        for (number, answer) in open.answers.iter().enumerate().skip(first) {
            self.produce(number, &answer.output)?;
        }
        Ok(())
    }

    fn produce(&self, number: usize, output: &Output) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&output.place.topic, number);
        record.key = output.meta.key.as_deref();
        record.payload = output.reply.value.as_deref();
        record.partition = output.place.partition;
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
            thread::park_timeout(LOOK);
        }
        Ok(())
    }

    /// Deliveries first, for librdkafka's own wait for them is a slow one.
    fn try_commit(&mut self) -> Result<(), TxnError> {
        self.await_deliveries()?;
        let Some(open) = &self.open else { return Ok(()) };
        let consumer = lock(&self.transactions.consumer).clone().ok_or(TxnError::Over)?;
        // Taken before the partitions are looked at: should one be lost after that, it is this membership that the
        // brokers refuse.
        let group = consumer.group_metadata().ok_or(TxnError::Lost)?;
        if open.parts.iter().any(|part| part.assignment.is_fenced()) {
            return Err(TxnError::Lost);
        }
        self.send_offsets(open, &group)?;
        let timeout = self.transactions.timeout;
        self.persist("commit_transaction", |producer| producer.commit_transaction(timeout))?;
        for Part { assignment, position } in self.open.take().into_iter().flat_map(|o| o.parts) {
            self.transactions.shared.resolved(assignment.written(position));
            self.transactions.committed(assignment.partition, position);
        }
        self.failures = 0;
        self.transactions.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn send_offsets(&self, open: &Open, group: &ConsumerGroupMetadata) -> Result<(), TxnError> {
        let offsets = open.parts.iter().map(|part| (part.assignment.partition, part.position));
        let offsets = offset_list(&self.transactions.shared.topic, offsets);
        let timeout = self.transactions.timeout;
        self.persist("send_offsets_to_transaction", |producer| {
            producer.send_offsets_to_transaction(&offsets, group, timeout)
        })
    }

    fn await_deliveries(&self) -> Result<(), TxnError> {
        let producer = self.producer()?;
        let deadline = Instant::now() + self.transactions.timeout;
        loop {
            // In this order: a failure is reported before its record counts no more.
            let outstanding = producer.in_flight_count();
            if let Some((error, _)) = producer.context().first_failure() {
                return Err(self.cause(error));
            }
            match outstanding {
                0 => return Ok(()),
                _ if self.is_given_up() => return Err(TxnError::Over),
                _ if Instant::now() >= deadline => {
                    return Err(TxnError::Abort(KafkaError::Flush(
                        RDKafkaErrorCode::OperationTimedOut,
                    )));
                }
                _ => thread::park_timeout(SOON),
            }
        }
    }

    /// What is behind an answer that was not written: where a transaction fails as a whole, librdkafka drops what is not
    /// sent, and the next call says why.
    fn cause(&self, error: KafkaError) -> TxnError {
        let dropped = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        );
        let consumer = lock(&self.transactions.consumer).clone();
        if dropped
            && let Some(open) = &self.open
            && let Some(group) = consumer.and_then(|consumer| consumer.group_metadata())
            && let Err(error) = self.send_offsets(open, &group)
        {
            return error;
        }
        error.into()
    }

    /// Makes a call again for as long as its error says that this may help, and the transaction can last.
    fn persist(
        &self,
        what: &'static str,
        call: impl Fn(&Producer) -> KafkaResult<()>,
    ) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.transactions.timeout;
        loop {
            match self.call(what, self.transactions.timeout, &call) {
                Err(TxnError::Retry(error)) if Instant::now() < deadline => {
                    tracing::debug!(%error, "{what} is made again");
                    thread::park_timeout(LOOK);
                }
                // Whether it was done is not known.
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
        *lock(&self.transactions.call) = Some((what, Instant::now() + timeout + GRACE));
        let done = call(producer);
        if self.is_given_up() {
            return Err(TxnError::Over);
        }
        *lock(&self.transactions.call) = None;
        Ok(done?)
    }

    /// After an error: voids what is in flight, ends the transaction, and has the partitions rewound.
    fn recover(&mut self, error: TxnError) {
        if matches!(error, TxnError::Over) || self.is_given_up() {
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
            _ if self.is_given_up() => return,
            Ok(()) => self.transactions.rewind.store(true, Ordering::Release),
            Err(error) if error.is_fenced() && self.is_young() && self.was_fenced_before() => {
                let id = self.transactions.id.clone();
                return self.transactions.shared.fail(Error::Fenced { id });
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
        self.persist("abort_transaction", |producer| {
            match producer.abort_transaction(timeout) {
                // It had not begun.
                Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::State => {
                    Ok(())
                }
                done => done,
            }
        })?;
        // What was not delivered is reported as such, by another thread.
        let producer = self.producer()?;
        let deadline = Instant::now() + timeout;
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::park_timeout(SOON);
        }
        producer.context().reset();
        Ok(())
    }

    /// Leaves the producer to a thread of its own: its end may take long.
    fn discard(&mut self) {
        if let Some(producer) = self.producer.take() {
            thread::Builder::new()
                .name("kafka-transactions-end".to_owned())
                .spawn(move || drop(producer))
                .ok();
        }
    }

    /// Has a new producer shut the old one out, which ends its transaction one way or the other.
    fn rebuild(&mut self) -> Result<(), TxnError> {
        match self.transactions.watched_producer(self.generation) {
            Ok(producer) if !self.is_given_up() => {
                tracing::info!(id = %self.transactions.id, "a new producer has taken over");
                self.producer = Some(producer);
                self.transactions.rewind.store(true, Ordering::Release);
                Ok(())
            }
            Ok(_) => Err(TxnError::Over),
            Err(error) => match TxnError::from(error) {
                TxnError::GiveUp(error) => Err(TxnError::GiveUp(error)),
                error => {
                    tracing::warn!(?error, "no new producer yet");
                    self.back_off();
                    Ok(())
                }
            },
        }
    }

    fn give_up(&self, error: KafkaError) {
        self.transactions.void();
        let (topic, source) = (self.transactions.topic(), error.into());
        self.transactions.shared.fail(Error::Transaction { topic, source });
    }

    /// The answer that the brokers would not take, if that is what failed.
    fn note_poison(&self) {
        let (Ok(written), Some(open)) = (self.written(), &self.open) else { return };
        if let Some((error, number)) = written.first_failure()
            && let Some(code) = of_the_record(&error)
            && let Some(answer) = open.answers.get(number)
        {
            let message = format_args!("the reply was not written: {}", ClientError::from(error));
            self.transactions.poisoned(answer, Failure::new(code, message));
        }
    }

    /// Whether the brokers cannot have given the last transaction up for its age.
    fn is_young(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() < self.transactions.timeout)
    }

    /// Whether this is the second time in a minute. Of two instances with one id, each keeps shutting the other out.
    fn was_fenced_before(&mut self) -> bool {
        const SOON: Duration = Duration::from_mins(1);
        let before = self.fenced.replace(Instant::now());
        before.is_some_and(|at| at.elapsed() < SOON)
    }

    fn back_off(&mut self) {
        const MOST: u32 = 6;
        let pause = Duration::from_millis(50) * 2_u32.pow(self.failures.min(MOST));
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
    /// A new producer that has shut out every other of its id.
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

    fn watched_producer(&self, generation: u64) -> KafkaResult<Producer> {
        *lock(&self.call) = Some(("init_transactions", Instant::now() + INIT + GRACE));
        let producer = self.open_producer(INIT);
        if self.generation.load(Ordering::Acquire) == generation {
            *lock(&self.call) = None;
        }
        producer
    }
}

/// How long a producer waits for its coordinator before it is made anew.
const INIT: Duration = Duration::from_secs(30);

/// The first of the open transaction's answers that could not be written.
#[derive(Default)]
pub(in crate::source) struct Written(Mutex<Option<Unwritten>>);

/// Why an answer was not written, and its number.
type Unwritten = (KafkaError, usize);

impl Written {
    fn failed(&self, error: KafkaError, number: usize) {
        lock(&self.0).get_or_insert((error, number));
    }

    fn first_failure(&self) -> Option<Unwritten> {
        lock(&self.0).clone()
    }

    fn reset(&self) {
        *lock(&self.0) = None;
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

    /// Called where it failed only: so it is set.
    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Err((error, _)) = result {
            self.failed(error.clone(), number);
        }
    }
}

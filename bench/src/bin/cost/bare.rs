//! The bare loop, with which Forebay is compared: librdkafka's consumer and producer, and only as
//! much code as is needed to lose no record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::job::{Job, Stopwatch, on_end};
use crate::settings::{self, COMMIT_INTERVAL, TRANSACTION};
use crate::topics::{PARTITIONS, is_full};

/// Longest wait of a poll when no commit is due.
const IDLE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

/// The confirmed replies. All replies to the requests of one partition go to one partition, so they
/// are confirmed in the order of the requests, and one offset per partition tells which requests
/// are answered.
#[derive(Default)]
struct Confirmed {
    // By partition of the requests: the offset after the last answered request.
    next: [AtomicI64; PARTITIONS as usize],
    // Number of confirmations, including errors.
    count: AtomicUsize,
    // Whether a confirmation was an error.
    failed: AtomicBool,
}

impl ClientContext for Confirmed {}

impl ProducerContext for Confirmed {
    /// The partition and offset of the request, packed into one number.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, origin: usize) {
        let partition = origin >> 48;
        let offset = (origin & ((1 << 48) - 1)).cast_signed() as i64;
        match result {
            // Pairs with the `Acquire` load in `at_least_once`.
            Ok(_) => self.next[partition].store(offset + 1, Ordering::Release),
            Err(_) => self.failed.store(true, Ordering::Release),
        }
        // Pairs with the `Acquire` load in `await_confirmed`, which then also sees `failed`.
        self.count.fetch_add(1, Ordering::AcqRel);
    }
}

type Producer = ThreadedProducer<Confirmed>;

fn subscribe(job: &Job) -> anyhow::Result<(BaseConsumer, Arc<AtomicBool>)> {
    let consumer: BaseConsumer = settings::consumer(&job.brokers, &job.replies).create()?;
    consumer.subscribe(&[&job.requests])?;
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    // Pairs with the `Acquire` loads of the loops below.
    on_end(move || stop.store(true, Ordering::Release));
    Ok((consumer, stopped))
}

fn send(producer: &Producer, topic: &str, message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    let partition = usize::try_from(message.partition())?;
    let origin = partition << 48 | usize::try_from(message.offset())?;
    let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, origin);
    (record.key, record.payload) = (message.key(), message.payload());
    record.headers = message.headers().map(rdkafka::message::BorrowedHeaders::detach);
    while let Err((error, back)) = producer.send(record) {
        if !is_full(&error) {
            return Err(error).context("sending");
        }
        record = back;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn positions(topic: &str, next: impl Fn(usize) -> i64) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in (0..PARTITIONS).zip((0..).map(next)).filter(|(_, next)| *next > 0) {
        list.add_partition_offset(topic, partition, Offset::Offset(next))?;
    }
    Ok(list)
}

/// Waits until `count` replies are confirmed.
fn await_confirmed(producer: &Producer, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let confirmed = producer.context();
    while confirmed.count.load(Ordering::Acquire) < count {
        if Instant::now() >= deadline {
            bail!("not all replies were confirmed in time");
        }
        thread::sleep(Duration::from_micros(200));
    }
    if confirmed.failed.load(Ordering::Acquire) {
        bail!("a reply was not written");
    }
    Ok(())
}

/// Passes requests on, and commits the offsets of confirmed ones once a second.
pub(crate) fn at_least_once(job: &Job) -> anyhow::Result<Stopwatch> {
    let (consumer, stopped) = subscribe(job)?;
    let producer: Producer =
        settings::producer(&job.brokers).create_with_context(Confirmed::default())?;
    let confirmed = producer.context();
    let offsets = || positions(&job.requests, |n| confirmed.next[n].load(Ordering::Acquire));
    let mut stopwatch = Stopwatch::new();
    let mut sent = 0;
    let mut committed = Instant::now();
    while sent < job.count && !stopped.load(Ordering::Acquire) {
        if let Some(message) = consumer.poll(IDLE) {
            stopwatch.read();
            send(&producer, &job.replies, &message?)?;
            sent += 1;
        }
        if committed.elapsed() >= COMMIT_INTERVAL {
            committed = Instant::now();
            let offsets = offsets()?;
            if offsets.count() > 0 {
                consumer.commit(&offsets, CommitMode::Async)?;
            }
        }
    }
    await_confirmed(&producer, sent)?;
    consumer.commit(&offsets()?, CommitMode::Sync)?;
    drop(consumer);
    Ok(stopwatch)
}

/// Passes requests on in transactions, which include the offsets of the requests.
pub(crate) fn exactly_once(job: &Job) -> anyhow::Result<Stopwatch> {
    let (consumer, stopped) = subscribe(job)?;
    let mut client = settings::producer(&job.brokers);
    client.set("transactional.id", &job.replies).set("transaction.timeout.ms", "10000");
    let producer: Producer = client.create_with_context(Confirmed::default())?;
    producer.init_transactions(PATIENCE)?;
    let mut stopwatch = Stopwatch::new();
    let mut sent = 0;
    let mut next = [0; PARTITIONS as usize];
    // Start of the transaction, if one is open.
    let mut begun: Option<Instant> = None;
    let mut over = false;
    while !over {
        let wait = begun.map_or(IDLE, |begun| TRANSACTION.saturating_sub(begun.elapsed()));
        if let Some(message) = consumer.poll(wait) {
            stopwatch.read();
            let message = message?;
            if begun.is_none() {
                producer.begin_transaction()?;
                begun = Some(Instant::now());
            }
            send(&producer, &job.replies, &message)?;
            next[usize::try_from(message.partition())?] = message.offset() + 1;
            sent += 1;
        }
        over = sent >= job.count || stopped.load(Ordering::Acquire);
        if begun.take_if(|begun| over || begun.elapsed() >= TRANSACTION).is_some() {
            // This is faster than leaving the wait for the confirmations to `commit_transaction`.
            await_confirmed(&producer, sent)?;
            let group =
                consumer.group_metadata().context("the consumer has not joined its group")?;
            let offsets = positions(&job.requests, |partition| next[partition])?;
            producer.send_offsets_to_transaction(&offsets, &group, PATIENCE)?;
            producer.commit_transaction(PATIENCE)?;
        }
    }
    drop(consumer);
    Ok(stopwatch)
}

/// Reads records, drops them, and commits their offsets.
pub(crate) fn consume(job: &Job) -> anyhow::Result<Stopwatch> {
    let (consumer, stopped) = subscribe(job)?;
    let mut stopwatch = Stopwatch::new();
    let mut read = 0;
    let mut next = [0; PARTITIONS as usize];
    while read < job.count && !stopped.load(Ordering::Acquire) {
        let Some(message) = consumer.poll(IDLE) else { continue };
        stopwatch.read();
        let message = message?;
        next[usize::try_from(message.partition())?] = message.offset() + 1;
        read += 1;
    }
    consumer.commit(&positions(&job.requests, |n| next[n])?, CommitMode::Sync)?;
    drop(consumer);
    Ok(stopwatch)
}

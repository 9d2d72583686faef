//! `Transactions`: answers and the offsets that they answer, written in one transaction after another.
//!
//! A thread of its own, the [`worker`], takes what is [staged](super::staged) of each assignment up to its first offset
//! that is not answered, produces it, and commits it together with that offset. When a transaction fails, everything that
//! is in flight is void: the worker fences all assignments and aborts, and the poll thread [rewinds](super::rewind) the
//! partitions to what is committed. A call that does not return in its time is given up with its thread and its producer;
//! a new one with the same id shuts the old one out.

mod txn_error;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Duration;

use forebay_stream::Failure;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tokio::time::Instant;

pub(super) use self::worker::Producer;
use self::worker::{StagedReply, Worker};
use super::group::Group;
use super::shared::{Shared, lock};
use crate::Error;
use crate::sink::ReplyKind;

/// What the worker, the poll thread, the sinks and the receipts of one source have in common.
pub(crate) struct Transactions {
    pub(super) shared: Arc<Shared>,
    client: ClientConfig,
    // That of the first sink's topic.
    batch_size: Option<String>,
    id: String,
    commit_interval: Duration,
    timeout: Duration,
    consumer: Mutex<Option<Arc<BaseConsumer<Group>>>>,
    // The worker that counts. One that was given up finds another number here.
    generation: AtomicU64,
    worker: Mutex<Option<Thread>>,
    // Whether the worker has to be woken when there is something to do.
    asleep: AtomicBool,
    stopped: AtomicBool,
    ended: AtomicBool,
    // The blocking call that the worker is in, and when it should have returned.
    call: Mutex<Option<(&'static str, Instant)>>,
    // Flushes are numbered; all up to `flushed` are over.
    flush: AtomicU64,
    flushed: AtomicU64,
    rewind: AtomicBool,
    // Whether a transaction failed, and what it covered is still to be read again.
    failed: AtomicBool,
    // The inputs whose results the brokers will not take, and why, until their offsets are committed.
    poison: Mutex<HashMap<(i32, i64), Failure>>,
    has_poison: AtomicBool,
}

impl Transactions {
    /// Connects a producer, and ends what an earlier one with the same id left open.
    pub(super) async fn connect(
        shared: Arc<Shared>,
        client: ClientConfig,
        batch_size: Option<String>,
        settings: crate::TransactionSettings,
        id: String,
    ) -> Result<(Arc<Self>, Producer), Error> {
        let transactions = Arc::new(Self {
            shared,
            client,
            batch_size,
            id,
            commit_interval: settings.commit_interval,
            timeout: settings.timeout,
            consumer: Mutex::default(),
            generation: AtomicU64::new(0),
            worker: Mutex::default(),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(true),
            call: Mutex::default(),
            flush: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            rewind: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            poison: Mutex::default(),
            has_poison: AtomicBool::new(false),
        });
        let connecting = Arc::clone(&transactions);
        let producer = tokio::task::spawn_blocking(move || connecting.producer())
            .await
            .unwrap_or_else(|_| Err(Error::ThreadEnded { topic: transactions.topic() }))?;
        Ok((transactions, producer))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether a sink with these settings writes as this producer does.
    pub(super) fn writes_with(&self, client: &ClientConfig) -> bool {
        self.client.config_map() == client.config_map()
    }

    fn topic(&self) -> String {
        self.shared.topic.to_string()
    }

    /// Begins to write what `consumer` has in flight.
    pub(super) fn start(
        self: &Arc<Self>,
        consumer: &Arc<BaseConsumer<Group>>,
        producer: Producer,
    ) -> Result<(), Error> {
        *lock(&self.consumer) = Some(Arc::clone(consumer));
        self.spawn(Some(producer))
    }

    fn spawn(self: &Arc<Self>, producer: Option<Producer>) -> Result<(), Error> {
        let worker =
            Worker::new(Arc::clone(self), self.generation.load(Ordering::Acquire), producer);
        self.ended.store(false, Ordering::Release);
        let thread = thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        *lock(&self.worker) = Some(thread.thread().clone());
        Ok(())
    }

    /// An input is answered, so there may be something to write.
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(worker) = &*lock(&self.worker)
        {
            worker.unpark();
        }
    }

    /// Whether there are inputs whose results the brokers would not take.
    pub(crate) fn has_refused(&self) -> bool {
        self.has_poison.load(Ordering::Acquire)
    }

    /// What a result of this input has to fail with, if the brokers would not take it.
    pub(crate) fn refusal(&self, partition: i32, offset: i64) -> Option<Failure> {
        lock(&self.poison).get(&(partition, offset)).cloned()
    }

    // For the poll thread.

    /// Asks for everything that can be committed to be committed now. See [`is_flushed`](Self::is_flushed).
    pub(super) fn flush(&self) -> u64 {
        let number = self.flush.fetch_add(1, Ordering::AcqRel) + 1;
        self.asleep.store(true, Ordering::SeqCst);
        self.wake();
        number
    }

    /// Whether a flush is over, committed or failed.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.flushed.load(Ordering::Acquire) >= number || self.ended.load(Ordering::Acquire)
    }

    /// Whether a transaction failed and what it covered is still to be read again.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether one had failed, which from now on counts no more.
    pub(super) fn take_failure(&self) -> bool {
        self.failed.swap(false, Ordering::AcqRel)
    }

    /// Whether the partitions have to be rewound to what is committed. Whoever asks does so, or
    /// [says that it was not done](Self::not_rewound); from then on what failed is as if it had never been read.
    pub(super) fn take_rewind(&self) -> bool {
        let rewind = self.rewind.swap(false, Ordering::AcqRel);
        if rewind {
            self.take_failure();
        }
        rewind
    }

    pub(super) fn not_rewound(&self) {
        self.failed.store(true, Ordering::Release);
        self.rewind.store(true, Ordering::Release);
    }

    /// Gives the worker up if it is in a call that should have returned, and starts another.
    pub(super) fn watch(self: &Arc<Self>) {
        let overdue = {
            let mut call = lock(&self.call);
            call.take_if(|(_, until)| Instant::now() > *until)
        };
        let Some((what, _)) = overdue else { return };
        tracing::error!(id = %self.id, "{what} did not return in time; a new producer takes over");
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.void();
        if let Err(error) = self.spawn(None) {
            self.shared.fail(error);
        }
    }

    /// Ends the worker, and waits a moment for it.
    pub(super) fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        const LOOK: Duration = Duration::from_millis(5);
        self.stopped.store(true, Ordering::Release);
        let until = Instant::now() + PATIENCE;
        while !self.ended.load(Ordering::Acquire) && Instant::now() < until {
            self.asleep.store(true, Ordering::SeqCst);
            self.wake();
            thread::park_timeout(LOOK);
        }
        // Or it would not leave its group.
        lock(&self.consumer).take();
    }

    // For the worker.

    /// Everything in flight is void: whatever comes of it is dropped, and its records are read again.
    fn void(&self) {
        self.failed.store(true, Ordering::Release);
        self.shared.revoke(&self.shared.assigned());
    }

    /// The brokers will not take an output. A result fails when it comes again; where it was what told of a failure,
    /// nothing can answer its input.
    fn poisoned(&self, answer: &StagedReply, failure: Failure) {
        let StagedReply { partition, offset, output } = answer;
        let (partition, offset) = (*partition, *offset);
        if output.reply.kind == ReplyKind::Result {
            lock(&self.poison).insert((partition, offset), failure);
            self.has_poison.store(true, Ordering::Release);
            return;
        }
        let origin = self.shared.origin(partition, offset);
        self.shared.fail(Error::Unanswered { origin, failure: Box::new(failure) });
    }

    /// Forgets the poison that is committed.
    fn committed(&self, partition: i32, position: i64) {
        if self.has_refused() {
            let mut poison = lock(&self.poison);
            poison.retain(|(of, offset), _| *of != partition || *offset >= position);
            self.has_poison.store(!poison.is_empty(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Transactions, lock};
    use crate::source::shared::Shared;
    use crate::{Delivery, EmbeddedBroker, SinkConfig, SourceConfig};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_does_not_return_is_given_up_and_another_producer_takes_over() {
        let broker = EmbeddedBroker::start(&[("replies", 1)]).unwrap();
        let settings = crate::TransactionSettings::default();
        let mut config = SourceConfig::new(broker.bootstrap_servers(), "requests", "group");
        config.delivery = Delivery::ExactlyOnce(settings.clone());
        let shared = Arc::new(Shared::new(&config));
        shared.assign_anew(0);
        let client = SinkConfig::new(&config.brokers, "replies")
            .transactional_client("id", settings.timeout)
            .unwrap();
        let (transactions, _given_up) =
            Transactions::connect(Arc::clone(&shared), client, None, settings, "id".to_owned())
                .await
                .unwrap();
        // As a worker would that is in a call, and stays there.
        *lock(&transactions.call) = Some(("commit_transaction", Instant::now() + PATIENCE));
        transactions.watch();
        assert_eq!(shared.assigned(), [0], "it has time");
        let past = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
        *lock(&transactions.call) = Some(("commit_transaction", past));
        transactions.watch();
        assert!(shared.assigned().is_empty(), "what is in flight is void");
        let start = Instant::now();
        while !transactions.take_rewind() {
            assert!(start.elapsed() < PATIENCE, "no other producer");
            thread::yield_now();
        }
        transactions.stop();
    }
}

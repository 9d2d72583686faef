//! `Transactions`: writes replies and commits the offsets of their requests, in one transaction
//! after another.
//!
//! The [`worker`] thread takes the [staged](super::staged) replies of each assignment up to its
//! position, produces them, and commits them together with that position. If a transaction fails,
//! everything in flight is void: the worker fences all assignments and aborts, and the poll thread
//! [rewinds](super::rewind) the partitions to their committed offsets. If a call does not return in
//! time, its thread and its producer are given up, and a new producer with the same transactional
//! id fences the old one.

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

/// State that the worker, the poll thread, the sinks and the receipts of one source share.
pub(crate) struct Transactions {
    pub(super) shared: Arc<Shared>,
    client: ClientConfig,
    // The `batch.size` that fits the first sink's topic.
    batch_size: Option<String>,
    id: String,
    commit_interval: Duration,
    timeout: Duration,
    consumer: Mutex<Option<Arc<BaseConsumer<Group>>>>,
    // Generation of the current worker. An old worker sees another number here and stops.
    generation: AtomicU64,
    // Thread of the current worker, to wake it.
    worker: Mutex<Option<Thread>>,
    // Whether the worker may be asleep, so that it has to be woken when there is work.
    asleep: AtomicBool,
    // Asks the worker to end.
    stopped: AtomicBool,
    // Whether no worker runs.
    ended: AtomicBool,
    // The blocking call that the worker is in, and the time by which it has to return.
    call: Mutex<Option<(&'static str, Instant)>>,
    // Number of the last flush that was requested, and of the last one that is complete.
    flush: AtomicU64,
    flushed: AtomicU64,
    // Whether the partitions have to be rewound to their committed offsets.
    rewind: AtomicBool,
    // Whether a transaction failed whose records are not read again yet.
    failed: AtomicBool,
    // Requests whose results the brokers refused, and why, until their offsets are committed.
    poison: Mutex<HashMap<(i32, i64), Failure>>,
    // Whether `poison` has entries.
    has_poison: AtomicBool,
}

impl Transactions {
    /// Connects a producer, which ends a transaction that an earlier one with the same id left
    /// open.
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

    /// Whether a sink with these settings can share this producer.
    pub(super) fn has_client_config(&self, client: &ClientConfig) -> bool {
        self.client.config_map() == client.config_map()
    }

    fn topic(&self) -> String {
        self.shared.topic.to_string()
    }

    /// Starts the worker, which writes the replies to the records of `consumer`.
    pub(super) fn start(
        self: &Arc<Self>,
        consumer: &Arc<BaseConsumer<Group>>,
        producer: Producer,
    ) -> Result<(), Error> {
        *lock(&self.consumer) = Some(Arc::clone(consumer));
        self.spawn(Some(producer))
    }

    /// Starts a worker of the current generation, which creates its producer if it is given none.
    fn spawn(self: &Arc<Self>, producer: Option<Producer>) -> Result<(), Error> {
        // Pairs with the increment in `replace_stuck_worker`.
        let generation = self.generation.load(Ordering::Acquire);
        let worker = Worker::new(Arc::clone(self), generation, producer);
        // Pairs with the loads in `is_flushed` and `stop`.
        self.ended.store(false, Ordering::Release);
        let thread = thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        *lock(&self.worker) = Some(thread.thread().clone());
        Ok(())
    }

    /// Wakes the worker if it may be asleep. Called when a record is settled, so that there may be
    /// something to commit.
    pub(super) fn wake(&self) {
        // Pairs with the store in `Worker::run`, which comes before the worker looks for work. If
        // the worker has looked too early to find the caller's work, this swap sees `true` and
        // wakes it.
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(worker) = &*lock(&self.worker)
        {
            worker.unpark();
        }
    }

    /// Whether the brokers refused results of requests that are not committed yet.
    pub(crate) fn has_refused(&self) -> bool {
        // Pairs with the stores in `poisoned` and `committed`.
        self.has_poison.load(Ordering::Acquire)
    }

    /// Returns the failure for a result to this request, if the brokers refused an earlier one.
    pub(crate) fn refusal(&self, partition: i32, offset: i64) -> Option<Failure> {
        lock(&self.poison).get(&(partition, offset)).cloned()
    }

    // Called by the poll thread.

    /// Asks the worker to commit everything that can be committed now. Returns the number of this
    /// flush for [`is_flushed`](Self::is_flushed).
    pub(super) fn flush(&self) -> u64 {
        // Pairs with the load in `Worker::run`: a turn that sees this number also sees the records
        // that were settled before.
        let number = self.flush.fetch_add(1, Ordering::AcqRel) + 1;
        // Makes `wake` unpark the worker even if it waits with an open transaction. Pairs with the
        // swap in `wake`.
        self.asleep.store(true, Ordering::SeqCst);
        self.wake();
        number
    }

    /// Whether a flush is complete: committed or failed.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        // Pair with the `fetch_max` in `Worker::run` and the store in `Worker::end`: a caller that
        // sees the flush complete also sees its outcome.
        self.flushed.load(Ordering::Acquire) >= number || self.ended.load(Ordering::Acquire)
    }

    /// Whether a transaction failed whose records are not read again yet.
    pub(super) fn has_failed(&self) -> bool {
        // Pairs with the stores in `void`, `rewind_failed` and `Worker::try_commit`.
        self.failed.load(Ordering::Acquire)
    }

    /// Forgets a failed transaction. Returns whether there was one.
    pub(super) fn take_failure(&self) -> bool {
        // Pairs with the stores in `void`, `rewind_failed` and `Worker::try_commit`.
        self.failed.swap(false, Ordering::AcqRel)
    }

    /// Whether the partitions have to be rewound to their committed offsets. A caller that gets
    /// `true` rewinds them or calls [`rewind_failed`](Self::rewind_failed). The failed transaction
    /// is forgotten, because its records are read as if for the first time.
    pub(super) fn take_rewind(&self) -> bool {
        // Pairs with the stores in `Worker::recover` and `Worker::rebuild`: the transaction has
        // ended before the partitions are rewound.
        let rewind = self.rewind.swap(false, Ordering::AcqRel);
        if rewind {
            self.take_failure();
        }
        rewind
    }

    /// Notes that rewinding failed, so that it is tried again.
    pub(super) fn rewind_failed(&self) {
        self.failed.store(true, Ordering::Release);
        self.rewind.store(true, Ordering::Release);
    }

    /// Replaces the worker if its blocking call is overdue.
    pub(super) fn replace_stuck_worker(self: &Arc<Self>) {
        let overdue = {
            let mut call = lock(&self.call);
            call.take_if(|(_, until)| Instant::now() > *until)
        };
        let Some((call, _)) = overdue else { return };
        tracing::error!(id = %self.id, "{call} did not return in time; a new producer takes over");
        // Pairs with the loads in `Worker::is_replaced` and `watched_producer`: a worker that sees
        // the new number stops and leaves `call` to its successor.
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.void();
        if let Err(error) = self.spawn(None) {
            self.shared.fail(error);
        }
    }

    /// Ends the worker, and waits up to two seconds for it.
    pub(super) fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        const CHECK_INTERVAL: Duration = Duration::from_millis(5);
        // Pairs with the load in `Worker::is_over`.
        self.stopped.store(true, Ordering::Release);
        let until = Instant::now() + PATIENCE;
        // Pairs with the store in `Worker::end`.
        while !self.ended.load(Ordering::Acquire) && Instant::now() < until {
            // As in `flush`, and again in each round, because the worker may have reset it.
            self.asleep.store(true, Ordering::SeqCst);
            self.wake();
            thread::park_timeout(CHECK_INTERVAL);
        }
        // A consumer leaves its group only when the last reference to it is dropped.
        lock(&self.consumer).take();
    }

    // Called by the worker, and by the poll thread when it replaces a worker.

    /// Voids everything in flight: later outcomes and replies are dropped, and the records are read
    /// again.
    fn void(&self) {
        // Pair with the load in `has_failed` and the swap in `take_rewind`.
        self.failed.store(true, Ordering::Release);
        self.shared.revoke(&self.shared.assigned());
    }

    /// Notes that the brokers refused a reply. A result fails when its request is read again. If
    /// the refused reply reports a failure, nothing can answer its request, and the source ends.
    fn poisoned(&self, reply: &StagedReply, failure: Failure) {
        let StagedReply { partition, offset, output } = reply;
        let partition = *partition;
        let offset = *offset;
        if output.reply.kind == ReplyKind::Result {
            lock(&self.poison).insert((partition, offset), failure);
            // Pairs with the load in `has_refused`.
            self.has_poison.store(true, Ordering::Release);
            return;
        }
        let origin = self.shared.origin(partition, offset);
        self.shared.fail(Error::Unanswered { origin, failure: Box::new(failure) });
    }

    /// Forgets refused results whose requests are committed.
    fn committed(&self, partition: i32, position: i64) {
        if self.has_refused() {
            let mut poison = lock(&self.poison);
            poison.retain(|(of, offset), _| *of != partition || *offset >= position);
            // Pairs with the load in `has_refused`.
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
        // As if the worker were stuck in a call.
        *lock(&transactions.call) = Some(("commit_transaction", Instant::now() + PATIENCE));
        transactions.replace_stuck_worker();
        assert_eq!(shared.assigned(), [0], "the call is not overdue");
        let past = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
        *lock(&transactions.call) = Some(("commit_transaction", past));
        transactions.replace_stuck_worker();
        assert!(shared.assigned().is_empty(), "what is in flight is void");
        let start = Instant::now();
        while !transactions.take_rewind() {
            assert!(start.elapsed() < PATIENCE, "no other producer took over");
            thread::yield_now();
        }
        transactions.stop();
    }
}

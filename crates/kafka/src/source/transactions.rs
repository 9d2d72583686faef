//! `Transactions`: writes replies and commits the offsets of their requests, in one transaction
//! after another.
//!
//! The [`worker`] thread takes the [staged](super::staged) replies of each assignment up to its
//! position, produces them, and commits them together with that position. If a transaction fails,
//! everything in flight is void: the worker fences all assignments and aborts, and the poll thread
//! [rewinds](super::rewind) the partitions to their committed offsets. If a call does not return in
//! time, its thread and its producer are given up, and a new producer with the same transactional
//! id fences the old one.

mod state;
mod txn_error;
mod worker;

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use forebay_stream::Failure;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tokio::time::Instant;

use self::state::State;
pub(super) use self::worker::Producer;
use self::worker::{StagedReply, Worker};
use super::core::Core;
use super::group::Group;
use crate::Error;
use crate::sink::ReplyKind;

/// State that the worker, the poll thread, the sinks and the receipts of one source share.
pub(crate) struct Transactions {
    pub(super) core: Arc<Core>,
    client: ClientConfig,
    // The `batch.size` that fits the first sink's topic.
    batch_size: Option<String>,
    id: String,
    commit_interval: Duration,
    timeout: Duration,
    consumer: Mutex<Option<Arc<BaseConsumer<Group>>>>,
    state: Mutex<State>,
    // Notified when the last worker has ended.
    ended: Condvar,
    // The requests, by partition and offset, whose results the brokers refused, and why. A request
    // is removed when its offset is committed.
    poison: Mutex<HashMap<(i32, i64), Failure>>,
    // Whether `poison` has entries.
    has_poison: AtomicBool,
}

impl Transactions {
    /// Connects a producer, which ends a transaction that an earlier one with the same id left
    /// open.
    pub(super) async fn connect(
        core: Arc<Core>,
        client: ClientConfig,
        batch_size: Option<String>,
        commit_interval: Duration,
        timeout: Duration,
        id: String,
    ) -> Result<(Arc<Self>, Producer), Error> {
        let transactions = Arc::new(Self {
            core,
            client,
            batch_size,
            id,
            commit_interval,
            timeout,
            consumer: Mutex::default(),
            state: Mutex::default(),
            ended: Condvar::new(),
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
        self.core.topic.to_string()
    }

    /// Starts the worker, which writes the replies to the records of `consumer`.
    pub(super) fn start(
        self: &Arc<Self>,
        consumer: &Arc<BaseConsumer<Group>>,
        producer: Producer,
    ) -> Result<(), Error> {
        *self.consumer.lock() = Some(Arc::clone(consumer));
        self.spawn(Some(producer))
    }

    /// Starts a worker of the current generation. Without a `producer`, it creates its own.
    fn spawn(self: &Arc<Self>, producer: Option<Producer>) -> Result<(), Error> {
        let generation = self.state.lock().start();
        let worker = Worker::new(Arc::clone(self), generation, producer);
        let thread = thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| {
                self.state.lock().end(generation);
                Error::Thread(error)
            })?;
        self.core.writer.register(thread.thread().clone());
        Ok(())
    }

    /// Whether the brokers refused results of requests that are not committed yet.
    pub(crate) fn has_refused(&self) -> bool {
        // Pairs with the stores in `poisoned` and `committed`.
        self.has_poison.load(Ordering::Acquire)
    }

    /// Returns the failure for a result to this request, if the brokers refused an earlier one.
    pub(crate) fn refusal(&self, partition: i32, offset: i64) -> Option<Failure> {
        self.poison.lock().get(&(partition, offset)).cloned()
    }

    // Called by the poll thread.

    /// Asks the worker to commit everything that can be committed now. Returns the number of this
    /// flush for [`is_flushed`](Self::is_flushed).
    pub(super) fn flush(&self) -> u64 {
        let number = self.state.lock().request_flush();
        self.core.writer.wake_at_once();
        number
    }

    /// Whether a flush is complete: committed or failed.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.state.lock().is_flushed(number)
    }

    /// Whether a transaction has failed and its records are not read again yet.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().has_failed()
    }

    /// Forgets a failed transaction. Returns whether there was one.
    pub(super) fn take_failure(&self) -> bool {
        self.state.lock().take_failure()
    }

    /// Whether the partitions have to be rewound to their committed offsets. A caller that gets
    /// `true` rewinds them or calls [`rewind_failed`](Self::rewind_failed). The failed transaction
    /// is forgotten, because its records are read as if for the first time.
    pub(super) fn take_rewind(&self) -> bool {
        self.state.lock().take_rewind()
    }

    /// Notes that rewinding failed, so that it is tried again.
    pub(super) fn rewind_failed(&self) {
        self.state.lock().rewind_failed();
    }

    /// Replaces the worker if its blocking call is overdue.
    pub(super) fn replace_stuck_worker(self: &Arc<Self>) {
        let overdue = self.state.lock().replace_if_overdue(Instant::now());
        let Some(call) = overdue else { return };
        tracing::error!(id = %self.id, "{call} did not return in time; a new producer takes over");
        self.void();
        if let Err(error) = self.spawn(None) {
            self.core.fail(error);
        }
    }

    /// Ends the worker, and waits up to two seconds for it.
    pub(super) fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.state.lock().stop();
        self.core.writer.wake_at_once();
        let mut state = self.state.lock();
        self.ended.wait_while_for(&mut state, |state| !state.has_ended(), PATIENCE);
        drop(state);
        // A consumer leaves its group only when the last reference to it is dropped.
        self.consumer.lock().take();
    }

    // Called by the worker, and by the poll thread when it replaces a worker.

    /// Voids everything in flight: later outcomes and replies are dropped, and the records are read
    /// again.
    fn void(&self) {
        self.state.lock().fail();
        self.core.ledger.revoke(&self.core.ledger.assigned());
    }

    /// Notes that the brokers refused a reply. If the reply is a result, the next result for its
    /// request fails with `failure`, which the pipeline handles like any other failure. If the
    /// reply is an error reply or a dead letter, nothing can answer its request, and the source
    /// ends.
    fn poisoned(&self, reply: &StagedReply, failure: Failure) {
        let StagedReply { partition, offset, output } = reply;
        let partition = *partition;
        let offset = *offset;
        if output.reply.kind == ReplyKind::Result {
            self.poison.lock().insert((partition, offset), failure);
            // Pairs with the load in `has_refused`.
            self.has_poison.store(true, Ordering::Release);
            return;
        }
        let origin = self.core.origin(partition, offset);
        self.core.fail(Error::Unanswered { origin, failure: Box::new(failure) });
    }

    /// Forgets refused results whose requests are committed.
    fn committed(&self, partition: i32, position: i64) {
        if self.has_refused() {
            let mut poison = self.poison.lock();
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

    use super::Transactions;
    use crate::source::core::Core;
    use crate::{Delivery, EmbeddedBroker, SinkConfig, SourceConfig};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_does_not_return_is_given_up_and_another_producer_takes_over() {
        let broker = EmbeddedBroker::start(&[("replies", 1)]).unwrap();
        let settings = crate::TransactionSettings::default();
        let mut config = SourceConfig::new(broker.bootstrap_servers(), "requests", "group");
        let interval = settings.commit_interval;
        config.delivery = Delivery::ExactlyOnce(settings);
        let core = Arc::new(Core::new(&config));
        core.ledger.assign_anew(0);
        let timeout = Duration::from_secs(10);
        let client = SinkConfig::new(&config.brokers, "replies")
            .transactional_client("id", timeout)
            .unwrap();
        let source = Arc::clone(&core);
        let id = "id".to_owned();
        let (transactions, _given_up) =
            Transactions::connect(source, client, None, interval, timeout, id).await.unwrap();
        // As if a worker were stuck in a call.
        let stuck = transactions.state.lock().start();
        let enter =
            |until| transactions.state.lock().begin_call(stuck, "commit_transaction", until);
        enter(Instant::now() + PATIENCE);
        transactions.replace_stuck_worker();
        assert_eq!(core.ledger.assigned(), [0], "the call is not overdue");
        let past = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
        enter(past);
        transactions.replace_stuck_worker();
        assert!(core.ledger.assigned().is_empty(), "everything in flight is void");
        let start = Instant::now();
        while !transactions.take_rewind() {
            assert!(start.elapsed() < PATIENCE, "no other producer took over");
            thread::yield_now();
        }
        transactions.stop();
    }
}

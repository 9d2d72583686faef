//! `Transactions`: writes replies and commits the offsets of their requests, in one transaction
//! after another.
//!
//! A [worker thread](worker::Worker) takes the [staged](super::staged) replies of each assignment up to its
//! position, produces them, and commits them together with that position. If a transaction fails,
//! everything in flight is void: the worker fences all assignments and aborts, and the poll thread
//! [rewinds](super::rewind) the partitions to their committed offsets. If a call does not return in
//! time, its thread and its producer are given up, and a new producer with the same transactional
//! id fences the old one.

mod client;
mod job;
mod open;
mod producer;
mod recover;
mod refusals;
mod state;
mod txn_error;
mod worker;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use forebay_stream::Failure;
use parking_lot::{Condvar, Mutex};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tokio::time::Instant;

use self::job::Job;
use self::worker::Worker;
use super::core::Core;
use super::group::Group;
use crate::Error;

pub(super) use self::producer::Producer;

/// Starts, watches and stops the workers; also tells the sinks which results were refused.
pub(crate) struct Transactions(Arc<Job>);

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
        let job = Job {
            core,
            id,
            client,
            batch_size,
            commit_interval,
            timeout,
            consumer: Mutex::default(),
            state: Mutex::default(),
            ended: Condvar::new(),
            refusals: refusals::Refusals::default(),
            gone: Mutex::default(),
            failing: Mutex::default(),
        };
        let topic = job.topic();
        let config = job.producer_config();
        let created = tokio::task::spawn_blocking(move || producer::create(&config)).await;
        let Ok(created) = created else { return Err(Error::ThreadEnded { topic }) };
        let producer =
            created.map_err(|error| Error::Transaction { topic, source: error.into() })?;
        Ok((Arc::new(Self(Arc::new(job))), producer))
    }

    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether a sink with these settings can share this producer.
    pub(super) fn has_client_config(&self, client: &ClientConfig) -> bool {
        self.0.client.config_map() == client.config_map()
    }

    /// Whether these transactions commit the offsets of the source that `core` belongs to.
    pub(super) fn are_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.0.core, core)
    }

    /// Starts the worker, which writes the replies to the records of `consumer`.
    pub(super) fn start(
        &self,
        consumer: &Arc<BaseConsumer<Group>>,
        producer: Producer,
    ) -> Result<(), Error> {
        *self.0.consumer.lock() = Some(Arc::clone(consumer));
        self.spawn(Some(producer))
    }

    /// Starts a worker of the current generation. Without a `producer`, it creates its own.
    fn spawn(&self, producer: Option<Producer>) -> Result<(), Error> {
        let generation = self.0.state.lock().start();
        let worker = Worker::new(Arc::clone(&self.0), generation, producer);
        let thread = thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| {
                self.0.state.lock().end(generation);
                Error::Thread(error)
            })?;
        self.0.core.writer.register(thread.thread().clone());
        Ok(())
    }

    /// Whether the brokers refused results of requests that are not committed yet.
    pub(crate) fn has_refused(&self) -> bool {
        self.0.refusals.has_any()
    }

    /// Returns the failure for a result to this request, if the brokers refused an earlier one.
    pub(crate) fn refusal(&self, partition: i32, offset: i64) -> Option<Failure> {
        self.0.refusals.get(partition, offset)
    }

    /// Whether a sink's own topic does not exist any more.
    pub(crate) fn is_gone(&self, topic: &str) -> bool {
        self.0.gone.lock().as_deref() == Some(topic)
    }

    // Called by the poll thread.

    /// Asks the worker to commit everything that can be committed now. Returns the number of this
    /// flush for [`is_flushed`](Self::is_flushed).
    pub(super) fn flush(&self) -> u64 {
        let number = self.0.state.lock().request_flush();
        self.0.core.writer.wake_at_once();
        number
    }

    /// Whether a flush is complete: committed or failed.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.0.state.lock().is_flushed(number)
    }

    /// Whether a transaction has failed and its records are not read again yet.
    pub(super) fn has_failed(&self) -> bool {
        self.0.state.lock().has_failed()
    }

    /// Forgets a failed transaction. Returns whether there was one.
    pub(super) fn take_failure(&self) -> bool {
        self.0.state.lock().take_failure()
    }

    /// Whether the partitions have to be rewound to their committed offsets. A caller that gets
    /// `true` rewinds them or calls [`rewind_failed`](Self::rewind_failed). The failed transaction
    /// is forgotten, because its records are read as if for the first time.
    pub(super) fn take_rewind(&self) -> bool {
        self.0.state.lock().take_rewind()
    }

    /// Notes that rewinding failed, so that it is tried again.
    pub(super) fn rewind_failed(&self) {
        self.0.state.lock().rewind_failed();
    }

    /// Replaces the worker if its blocking call is overdue.
    pub(super) fn replace_stuck_worker(&self) {
        /// Most threads and producers that calls which do not return may leave behind.
        const MOST_STUCK: usize = 8;
        let (overdue, stuck) = {
            let mut state = self.0.state.lock();
            (state.replace_if_overdue(Instant::now()), state.stuck())
        };
        let Some(call) = overdue else { return };
        tracing::error!(id = %self.0.id, "{call} did not return in time; a new producer takes over");
        self.0.void();
        if stuck > MOST_STUCK {
            return self.0.core.fail(Error::StuckCalls { count: stuck });
        }
        if let Err(error) = self.spawn(None) {
            self.0.core.fail(error);
        }
    }

    /// Ends the worker, and waits up to two seconds for it.
    pub(super) fn stop(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.0.state.lock().stop();
        self.0.core.writer.wake_at_once();
        let mut state = self.0.state.lock();
        self.0.ended.wait_while_for(&mut state, |state| !state.has_ended(), PATIENCE);
        drop(state);
        // A consumer leaves its group only when the last reference to it is dropped.
        self.0.consumer.lock().take();
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
    use crate::{Delivery, EmbeddedBroker, Error, SinkConfig, SourceConfig};

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
        let stuck = transactions.0.state.lock().start();
        let enter =
            |until| transactions.0.state.lock().begin_call(stuck, "commit_transaction", until);
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

        // As if calls were stuck again and again.
        for _ in 0..8 {
            assert!(core.end.take_failure().is_none());
            let stuck = transactions.0.state.lock().start();
            transactions.0.state.lock().begin_call(stuck, "commit_transaction", past);
            transactions.replace_stuck_worker();
            transactions.stop();
        }
        assert!(matches!(core.end.take_failure(), Some(Error::StuckCalls { count: 9 })));
    }
}

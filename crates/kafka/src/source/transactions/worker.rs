//! `Worker`: the thread that writes transactions.
//!
//! Transitions:
//!
//! - idle (a producer, and `open` is `None`) to open: `turn` finds a position to commit.
//! - open to idle: the transaction is committed, after `commit_interval`, for a flush, or because
//!   it is large.
//! - open to open: during a rebalance, `commit` aborts and writes the same replies again.
//! - idle or open to idle: after an error, [`Recovery`] voids everything in flight and aborts.
//! - idle or open to no producer: after an error, [`Recovery`] voids everything in flight and
//!   discards the producer.
//! - no producer to idle: [`Recovery`] has created a producer, which has fenced the old one.
//! - any to ended: the source stops, or the poll thread has replaced this worker.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::job::Job;
use super::open::{Open, Part};
use super::producer::Producer;
use super::recover::Recovery;
use super::txn_error::{TxnError, is_rebalance};
use crate::source::assignment::{Assignment, Committable};

/// How often the worker looks for more replies to write while a transaction is open.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// The longest time that an idle worker sleeps, in case a wake-up is lost; also the pause before a
/// transaction is written again.
const BACKSTOP: Duration = Duration::from_millis(100);

pub(super) struct Worker {
    job: Arc<Job>,
    generation: u64,
    client: Client,
    open: Option<Open>,
    recovery: Recovery,
}

impl Worker {
    /// Without a `producer`, the worker creates its own.
    pub(super) fn new(job: Arc<Job>, generation: u64, producer: Option<Producer>) -> Self {
        let client = Client::new(Arc::clone(&job), generation, producer);
        let recovery = Recovery::new(Arc::clone(&job));
        Self { job, generation, client, open: None, recovery }
    }

    /// Writes transactions until the source ends or this worker is replaced.
    pub(super) fn run(mut self) {
        let job = Arc::clone(&self.job);
        while !self.client.is_over() {
            // Called before the thread looks for work, so that work added later wakes it. Pairs
            // with the swap in `Wake::wake`. While a transaction is open, the thread looks for work
            // at short intervals, so settled records need not wake it.
            job.core.writer.set_asleep(self.open.is_none());
            let flush = job.state.lock().requested_flush();
            let turned = if self.client.has_producer() {
                self.turn(flush)
            } else {
                self.recovery.rebuild(&mut self.client)
            };
            if let Err(error) = turned {
                self.recovery.recover(&mut self.client, &mut self.open, error);
            }
            if job.state.lock().complete_flush(self.generation, flush) {
                job.core.poller.wake();
            }
            if self.open.is_some() {
                thread::park_timeout(CHECK_INTERVAL);
            } else if job.core.writer.is_asleep() {
                thread::park_timeout(BACKSTOP);
            }
            // Otherwise `Wake::wake` was called during this turn, so there is new work. Its unpark
            // may already have ended another wait of this turn, so the thread must not park here.
        }
        self.end();
    }

    /// Aborts an open transaction.
    fn end(mut self) {
        if self.open.take().is_some()
            && let Err(error) = self.client.abort_at_end()
        {
            tracing::debug!(
                ?error,
                "the last transaction was not aborted; the brokers abort it after its timeout"
            );
        }
        self.job.state.lock().end(self.generation);
        self.job.ended.notify_all();
    }

    /// Produces the replies that can be written, and commits the open transaction when it is due.
    fn turn(&mut self, flush: u64) -> Result<(), TxnError> {
        for assignment in self.job.core.ledger.assignments() {
            if let Some(ready) = assignment.take_ready() {
                self.write(assignment, ready)?;
            }
        }
        if let Some((error, _)) = self.client.first_failure()? {
            return Err(self.client.cause(self.open.as_ref(), error));
        }
        let Some(open) = &self.open else { return Ok(()) };
        let flushing = !self.job.state.lock().is_flushed(flush);
        if flushing
            || open.since.elapsed() >= self.job.commit_interval
            || self.job.core.ledger.must_commit(open.bytes)
        {
            self.commit()?;
        }
        Ok(())
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
        self.recovery.begun();
        self.client.begin()
    }

    /// Produces the replies of the open transaction from number `first` on.
    fn produce_from(&self, first: usize) -> Result<(), TxnError> {
        let Some(open) = &self.open else { return Ok(()) };
        for (number, reply) in open.replies.iter().enumerate().skip(first) {
            self.client.produce(number, &reply.output)?;
        }
        Ok(())
    }

    /// Commits the open transaction. During a rebalance the group refuses offsets. Then, as long as
    /// the partitions stay assigned, the same replies are written again in another transaction.
    fn commit(&mut self) -> Result<(), TxnError> {
        let deadline = Instant::now() + self.job.timeout / 2;
        loop {
            match self.try_commit() {
                Err(TxnError::Abort(error))
                    if is_rebalance(&error) && Instant::now() < deadline =>
                {
                    tracing::debug!(%error, "the group is rebalancing, the transaction is written again");
                    self.client.abort()?;
                    thread::park_timeout(BACKSTOP);
                    if self.client.is_over() {
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
        if open.is_void() {
            return Err(TxnError::Lost);
        }
        self.begin()?;
        self.produce_from(0)
    }

    /// Commits the open transaction once. Waits for the deliveries first, because librdkafka's own
    /// wait for them is slow.
    fn try_commit(&mut self) -> Result<(), TxnError> {
        self.client.await_deliveries(self.open.as_ref())?;
        let Some(open) = &self.open else { return Ok(()) };
        if self.job.consumer.lock().is_none() {
            return Err(TxnError::Over);
        }
        // The group's metadata is read before the partitions are checked. If a partition is lost
        // after the check, the metadata is out of date, and the brokers refuse the offsets.
        let group = self.job.group_metadata().ok_or(TxnError::Lost)?;
        if open.is_void() {
            return Err(TxnError::Lost);
        }
        self.client.send_offsets(open, &group)?;
        self.client.commit()?;
        let parts = self.open.take().into_iter().flat_map(|open| open.parts);
        for Part { assignment, position } in parts {
            self.job.core.confirmed.add(assignment.partition, position);
            self.job.core.wake_for(self.job.core.ledger.mark_committed(&assignment, position));
            self.job.refusals.forget_before(assignment.partition, position);
        }
        self.recovery.committed();
        self.job.state.lock().commit(self.generation);
        Ok(())
    }
}

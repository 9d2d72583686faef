//! `Poller`: the thread that polls librdkafka, from the first record to leaving the group.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::{Group, offset_list};
use super::partitions::Partitions;
use super::record::Record;
use super::rewind::rewind;
use super::shared::{BACKSTOP, Shared, after};
use super::transactions::Transactions;
use super::{CloseReport, Stats};
use crate::error::ClientError;
use crate::{Error, native};

/// How long a source that is full waits for room before it pauses its partitions. Pausing drops what librdkafka has
/// fetched ahead, and librdkafka may take a second to notice that it is over. A pipeline that took as long for the half
/// of its records that made room has as much to do with the other half meanwhile, so it does not run dry.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// Most records that are read before commits, handovers and the end are looked after.
const TOGETHER: usize = 1000;

pub(super) struct Poller {
    pub(super) consumer: Arc<BaseConsumer<Group>>,
    pub(super) shared: Arc<Shared>,
    pub(super) transactions: Option<Arc<Transactions>>,
    pub(super) partitions: Partitions,
    // As large as what may be in flight.
    pub(super) records: mpsc::Sender<Record>,
    pub(super) stop: CancellationToken,
    pub(super) commit_interval: Duration,
    // The flush that a handover waits for.
    pub(super) flush: Option<u64>,
}

impl Poller {
    /// Polls until the source is closed, commits, and reports. Dropping what comes with the report leaves the group.
    pub(super) fn run(mut self) -> (Result<CloseReport, Error>, Leaving) {
        self.shared.poll_here();
        let mut next_commit = after(self.commit_interval);
        let mut full_since = None;
        loop {
            if let Some(deadline) = self.shared.closing() {
                let assigned = self.shared.assigned();
                self.shared.drain(&assigned);
                if self.shared.is_drained(&assigned) || Instant::now() >= deadline {
                    return self.finish();
                }
            }
            self.regulate(&mut full_since);
            if full_since.is_none() || self.is_paused() {
                self.poll_all();
            }
            let done =
                self.hand_over().and_then(|()| self.partitions.look(&self.consumer, &self.shared));
            if let Err(error) = done {
                self.cannot_go_on(error);
            }
            self.look_after_transactions();
            let now = Instant::now();
            if now >= next_commit {
                self.commit();
                next_commit = after(self.commit_interval);
            }
            thread::park_timeout(BACKSTOP.min(next_commit.saturating_duration_since(now)));
        }
    }

    /// Ends a handover that can end: with transactions, once they have committed what it left.
    fn hand_over(&mut self) -> KafkaResult<()> {
        let group = self.consumer.context();
        let due = group.handover().as_ref().is_some_and(|handover| handover.is_due(&self.shared));
        if !due {
            return Ok(());
        }
        if let Some(transactions) = &self.transactions {
            let flush = *self.flush.get_or_insert_with(|| transactions.flush());
            if !transactions.is_flushed(flush) {
                return Ok(());
            }
        }
        self.flush = None;
        let Some(handover) = group.handover().take() else { return Ok(()) };
        handover.end(&self.consumer, &self.shared)
    }

    fn look_after_transactions(&self) {
        let Some(transactions) = &self.transactions else { return };
        transactions.watch();
        if self.shared.closing().is_none()
            && transactions.take_rewind()
            && let Err(error) = rewind(&self.consumer, &self.shared)
        {
            tracing::warn!(topic = %self.shared.topic, %error, "rewinding is tried again");
            transactions.not_rewound();
        }
    }

    /// Decides whether to read on: pauses when stopped or full for long, resumes at the low-water mark.
    fn regulate(&mut self, full_since: &mut Option<Instant>) {
        if self.is_over() {
            self.set_paused(true);
        } else if full_since.is_some() && self.shared.has_room() && self.has_place() {
            *full_since = None;
            self.set_paused(false);
        } else if self.is_full() {
            let since = *full_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PAUSE_AFTER {
                self.set_paused(true);
            }
        }
    }

    /// Nothing more may be handed out: stopped, failed, or nobody listens.
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.shared.has_failed() || self.records.is_closed()
    }

    fn is_full(&self) -> bool {
        self.shared.is_full() || !self.has_place()
    }

    /// Whether the channel takes a record. Those of a partition that was given back are not in flight any more, and
    /// stay in the channel until the pipeline comes to them.
    fn has_place(&self) -> bool {
        self.records.capacity() > 0
    }

    fn is_paused(&self) -> bool {
        self.consumer.context().is_paused()
    }

    fn set_paused(&self, paused: bool) {
        let group = self.consumer.context();
        if group.is_paused() == paused {
            return;
        }
        tracing::debug!(topic = %self.shared.topic, paused, "fetching");
        if let Err(error) = group.set_paused(&self.consumer, paused) {
            self.cannot_go_on(error);
        }
    }

    /// Serves whatever is waiting, up to as many records as there is room for.
    fn poll_all(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        let now = Instant::now();
        for _ in 0..TOGETHER {
            if self.is_full() && !self.is_paused() {
                break;
            }
            match consumer.poll(Duration::ZERO) {
                Some(polled) => self.take(polled, now),
                None if self.consumer.context().take_served() => {}
                None => return,
            }
        }
        // There may be more. Or the source is full: the time until pausing starts now.
        thread::current().unpark();
    }

    fn take(&mut self, polled: KafkaResult<BorrowedMessage<'_>>, now: Instant) {
        match polled {
            Ok(message) if !self.is_over() => {
                let Some(record) = Record::read(&message, &self.shared, now) else { return };
                if let Err(error) = self.partitions.read(&self.consumer, record.assignment()) {
                    self.cannot_go_on(error);
                }
                // Closed means that the stream is gone; the record stays open, so its offset is held.
                if let Err(mpsc::error::TrySendError::Full(_)) = self.records.try_send(record) {
                    tracing::error!(topic = %self.shared.topic, "more records than the bound allows");
                    self.cannot_go_on(KafkaError::MessageConsumption(RDKafkaErrorCode::QueueFull));
                }
            }
            // Not counted, so it is read again.
            Ok(_) | Err(KafkaError::PartitionEOF(_)) => {}
            Err(error) if is_final(&error) => self.cannot_go_on(error),
            // librdkafka has reported it to the context, and goes on.
            Err(_) => {}
        }
    }

    fn cannot_go_on(&self, error: KafkaError) {
        self.shared
            .fail(Error::Read { topic: self.shared.topic.to_string(), source: error.into() });
    }

    /// Commits what has moved, without waiting; the group hears of failures and has them made again.
    fn commit(&self) {
        if self.transactions.is_some() {
            return;
        }
        let assignments = self.shared.assignments().into_iter();
        let offsets = assignments.filter_map(|one| Some((one.partition, one.next_commit()?)));
        let offsets = offset_list(&self.shared.topic, offsets);
        if offsets.count() == 0 {
            return;
        }
        if let Err(code) = native::commit_later(&self.consumer, &offsets) {
            self.consumer.context().commit_failed(&KafkaError::ConsumerCommit(code), &offsets);
        }
    }

    fn finish(mut self) -> (Result<CloseReport, Error>, Leaving) {
        let Stats { held, .. } = self.shared.stats();
        let unresolved = self.shared.taken();
        let topic = self.shared.topic.to_string();
        let report = match &self.transactions {
            Some(transactions) if self.flush_at_last(transactions) => {
                Ok(CloseReport { unresolved, held })
            }
            Some(_) => Err(Error::Uncommitted { topic }),
            None => match self.commit_at_last() {
                Ok(()) => Ok(CloseReport { unresolved, held }),
                Err(source) => Err(Error::Commit { topic, source }),
            },
        };
        self.shared.leave();
        // The revocation that comes with leaving finds no assignment, and so waits for nothing.
        self.shared.revoke(&self.shared.assigned());
        let handover = self.consumer.context().handover().take();
        if let Some(handover) = handover
            && let Err(error) = handover.end(&self.consumer, &self.shared)
        {
            tracing::warn!(%error, "giving partitions back at the end failed");
        }
        if let Some(transactions) = self.transactions.take() {
            transactions.stop();
        }
        (report, Leaving(self.consumer))
    }

    /// Has the last transaction committed, and polls meanwhile. Whether it was. What failed before is void already, and
    /// for whoever reads these partitions next it is as if it had never been read.
    fn flush_at_last(&self, transactions: &Arc<Transactions>) -> bool {
        const LIMIT: Duration = Duration::from_secs(12);
        const LOOK: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + LIMIT;
        transactions.take_failure();
        let flush = transactions.flush();
        while !transactions.is_flushed(flush) && Instant::now() < deadline {
            transactions.watch();
            self.consumer.poll(Duration::ZERO);
            thread::park_timeout(LOOK);
        }
        transactions.is_flushed(flush) && !transactions.has_failed()
    }

    /// Commits whatever may be, and waits for the answer. The group refuses commits while it changes; then this serves
    /// the change, which may take partitions away, and commits what is left.
    fn commit_at_last(&mut self) -> Result<(), ClientError> {
        const LIMIT: Duration = Duration::from_secs(8);
        let deadline = Instant::now() + LIMIT;
        loop {
            let assignments = self.shared.assignments().into_iter();
            let offsets = assignments.filter_map(|one| Some((one.partition, one.last_commit()?)));
            let offsets = offset_list(&self.shared.topic, offsets);
            let left = deadline.saturating_duration_since(Instant::now());
            match native::commit_within(&self.consumer, &offsets, left) {
                Err(
                    RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress,
                ) if !left.is_zero() => {
                    self.poll_all();
                    thread::park_timeout(BACKSTOP);
                }
                done => return done.map_err(ClientError::from_code),
            }
        }
    }
}

/// A consumer that has committed and has still to leave its group, which its drop does. Brokers that do not answer, and
/// groups in the middle of a change, can make that take long.
pub(super) struct Leaving(
    #[expect(dead_code, reason = "held for its drop")] Arc<BaseConsumer<Group>>,
);

/// Errors after which librdkafka does not recover by itself, or would read what nobody asked for.
fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
}

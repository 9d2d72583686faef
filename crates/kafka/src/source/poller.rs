//! `Poller`: the thread that polls librdkafka, from the start of the source until the consumer
//! leaves the group.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::core::{Core, after};
use super::group::Group;
use super::handover;
use super::lists::offset_list;
use super::partitions::Partitions;
use super::record::Record;
use super::rewind::rewind;
use super::stats::CloseReport;
use super::transactions::Transactions;
use crate::error::ClientError;
use crate::{Error, SourceConfig, native};

/// How long a full source waits for room before it pauses its partitions.
///
/// Pausing drops the records that librdkafka has fetched ahead, and librdkafka may take a second to
/// fetch again after a partition is resumed. A source resumes when a quarter of its records are
/// settled (see `Core::low_water`). It pauses only if settling that quarter takes longer than a
/// second; then the other three quarters keep the pipeline busy until librdkafka fetches again.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// The longest time that the poll thread sleeps. Every event that concerns the thread also wakes
/// it, so this only bounds the delay if a wake-up were lost. It is far below
/// `max.poll.interval.ms`.
const BACKSTOP: Duration = Duration::from_millis(100);

/// Maximum number of polls before the thread looks after commits, handovers and closing.
const MAX_POLLS: usize = 1000;

pub(super) struct Poller {
    consumer: Arc<BaseConsumer<Group>>,
    core: Arc<Core>,
    transactions: Option<Arc<Transactions>>,
    partitions: Partitions,
    records: mpsc::Sender<Record>,
    stop: CancellationToken,
    commit_interval: Duration,
    // Number of the transactions' flush that the current handover waits for.
    flush: Option<u64>,
}

impl Poller {
    /// `records` has a capacity of `max_in_flight`.
    pub(super) fn new(
        consumer: Arc<BaseConsumer<Group>>,
        core: Arc<Core>,
        transactions: Option<Arc<Transactions>>,
        records: mpsc::Sender<Record>,
        stop: CancellationToken,
        config: &SourceConfig,
    ) -> Self {
        // Keeps an interval of zero from spinning the poll thread.
        const SHORTEST_COMMIT_INTERVAL: Duration = Duration::from_millis(10);
        Self {
            consumer,
            core,
            transactions,
            partitions: Partitions::new(config.max_uncommitted, config.stuck_after),
            records,
            stop,
            commit_interval: config.commit_interval.max(SHORTEST_COMMIT_INTERVAL),
            flush: None,
        }
    }

    /// Polls until the source is closed, then makes the last commit and returns the report.
    /// Dropping the returned [`Leaving`] leaves the group.
    ///
    /// If the source is closing, and its records are settled or the deadline has passed, the loop
    /// ends. Otherwise a turn of the loop starts or stops reading, polls, ends a handover that is
    /// due, pauses and resumes single partitions, watches the transactions, and commits when the
    /// interval has passed. Then the thread sleeps until it is woken.
    pub(super) fn run(mut self) -> (Result<CloseReport, Error>, Leaving) {
        self.core.poller.register(thread::current());
        let mut next_commit = after(self.commit_interval);
        let mut full_since = None;
        loop {
            self.core.poller.set_asleep(true);
            if let Some(deadline) = self.core.end.deadline() {
                let assigned = self.core.ledger.assigned();
                self.core.ledger.drain(&assigned);
                if self.core.ledger.is_drained(&assigned) || Instant::now() >= deadline {
                    return self.finish();
                }
            }
            self.regulate(&mut full_since);
            if full_since.is_none() || self.is_paused() {
                self.poll_all();
            }
            let over = self.is_over();
            let done = self
                .hand_over()
                .and_then(|()| self.partitions.update(&self.consumer, &self.core, over));
            if let Err(error) = done {
                self.fail(error);
            }
            self.check_transactions();
            let now = Instant::now();
            if now >= next_commit {
                self.commit();
                next_commit = after(self.commit_interval);
            }
            self.sleep(BACKSTOP.min(next_commit.saturating_duration_since(now)));
        }
    }

    /// Sleeps until the thread is woken. Returns at once if it was woken since the last call of
    /// `Wake::set_asleep`.
    fn sleep(&self, at_most: Duration) {
        if self.core.poller.is_asleep() {
            thread::park_timeout(at_most);
        }
    }

    /// Ends a handover that is due. With transactions, a flush comes first, which commits what is
    /// settled in the revoked partitions; until the flush is complete, the handover goes on.
    fn hand_over(&mut self) -> KafkaResult<()> {
        let group = self.consumer.context();
        let is_due = |revoked| handover::is_due(revoked, &self.core);
        let due = group.revoked().as_ref().is_some_and(is_due);
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
        let Some(revoked) = group.revoked().take() else { return Ok(()) };
        handover::end(&revoked, &self.consumer, &self.core)
    }

    /// Replaces a transaction worker that is stuck, and rewinds the partitions after a failed
    /// transaction.
    fn check_transactions(&self) {
        let Some(transactions) = &self.transactions else { return };
        transactions.replace_stuck_worker();
        if !self.core.end.is_closing()
            && transactions.take_rewind()
            && let Err(error) = rewind(&self.consumer, &self.core)
        {
            tracing::warn!(topic = %self.core.topic, %error, "rewinding failed, it is tried again");
            transactions.rewind_failed();
        }
    }

    /// Decides whether to read. Transitions:
    ///
    /// - reading to full, which sets `full_since`: the source is full. Polling stops.
    /// - full to paused: the source has been full for [`PAUSE_AFTER`]. Polling goes on without
    ///   records.
    /// - full or paused to reading: the load has fallen to the low-water mark, and the channel has
    ///   room.
    /// - any to paused: no more records may be handed out (see [`is_over`](Self::is_over)).
    fn regulate(&mut self, full_since: &mut Option<Instant>) {
        if self.is_over() {
            self.set_paused(true);
        } else if full_since.is_some() && self.core.ledger.has_room() && self.channel_has_room() {
            *full_since = None;
            self.set_paused(false);
        } else if self.is_full() {
            let since = *full_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PAUSE_AFTER {
                self.set_paused(true);
            }
        }
    }

    /// Whether no more records may be handed out: the source is stopped, has failed, or its stream
    /// was dropped.
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.core.end.has_failed() || self.records.is_closed()
    }

    fn is_full(&self) -> bool {
        self.core.ledger.is_full() || !self.channel_has_room()
    }

    /// Whether the channel has room for a record. Records of a revoked partition are no longer in
    /// flight, but stay in the channel until the stream comes to them.
    fn channel_has_room(&self) -> bool {
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
        tracing::debug!(topic = %self.core.topic, paused, "pausing or resuming all partitions");
        if let Err(error) = group.set_paused(&self.consumer, paused) {
            self.fail(error);
        }
    }

    /// Polls until no callback and no record is waiting, or until the source is full, but at most
    /// [`MAX_POLLS`] times.
    fn poll_all(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        // Each record gets a time of its own, which tells the order in which they were read.
        let mut now = Instant::now();
        for _ in 0..MAX_POLLS {
            if self.is_full() && !self.is_paused() {
                break;
            }
            match consumer.poll(Duration::ZERO) {
                Some(polled) => {
                    self.handle(polled, now);
                    now += Duration::from_nanos(1);
                }
                None if self.consumer.context().take_served() => {}
                None => return,
            }
        }
        // Either more records may be waiting, or the source is full and `regulate` has to note
        // since when, so the thread must not sleep before the loop runs again.
        self.core.poller.set_asleep(false);
    }

    fn handle(&mut self, polled: KafkaResult<BorrowedMessage<'_>>, now: Instant) {
        match polled {
            Ok(message) if !self.is_over() => {
                let Some(record) = Record::read(&message, &self.core, now) else { return };
                if let Err(error) = self.partitions.read(&self.consumer, record.assignment()) {
                    self.fail(error);
                }
                // A closed channel means that the stream was dropped. The record stays pending, so
                // its offset is not committed.
                if let Err(mpsc::error::TrySendError::Full(_)) = self.records.try_send(record) {
                    tracing::error!(topic = %self.core.topic, "the channel is full although the source had room");
                    self.fail(KafkaError::MessageConsumption(RDKafkaErrorCode::QueueFull));
                }
            }
            // If no more records may be handed out, this record is dropped. It is not counted as in
            // flight and its offset is not committed, so it is read again.
            Ok(_) | Err(KafkaError::PartitionEOF(_)) => {}
            Err(error) if is_final(&error) => self.fail(error),
            // librdkafka has reported the error to the context, and recovers by itself.
            Err(_) => {}
        }
    }

    fn fail(&self, error: KafkaError) {
        self.core.fail(Error::Read { topic: self.core.topic.to_string(), source: error.into() });
    }

    /// Commits the positions that have moved, without waiting. If the commit fails,
    /// `Group::commit_failed` is called, so that the next commit includes its positions again.
    fn commit(&self) {
        if self.transactions.is_some() {
            return;
        }
        let assignments = self.core.ledger.assignments().into_iter();
        let offsets = assignments.filter_map(|one| Some((one.partition, one.next_commit()?)));
        let offsets = offset_list(&self.core.topic, offsets);
        if offsets.count() == 0 {
            return;
        }
        if let Err(code) = native::commit_later(&self.consumer, &offsets) {
            self.consumer.context().commit_failed(&KafkaError::ConsumerCommit(code), &offsets);
        }
    }

    /// Makes the last commit, ends all assignments and the handover under way, and stops the
    /// transactions.
    fn finish(mut self) -> (Result<CloseReport, Error>, Leaving) {
        let held = self.core.ledger.held();
        let unresolved = self.core.ledger.handed_out();
        let topic = self.core.topic.to_string();
        let report = match &self.transactions {
            Some(transactions) if self.final_flush(transactions) => {
                Ok(CloseReport { unresolved, held })
            }
            Some(_) => Err(Error::Uncommitted { topic }),
            None => match self.final_commit() {
                Ok(()) => Ok(CloseReport { unresolved, held }),
                Err(source) => Err(Error::Commit { topic, source }),
            },
        };
        self.core.end.leave();
        // Leaving the group revokes all partitions. Their assignments end here, so that the
        // revocation has nothing to drain.
        self.core.ledger.revoke(&self.core.ledger.assigned());
        let revoked = self.consumer.context().revoked().take();
        if let Some(revoked) = revoked
            && let Err(error) = handover::end(&revoked, &self.consumer, &self.core)
        {
            tracing::warn!(%error, "giving partitions back at the end failed");
        }
        if let Some(transactions) = self.transactions.take() {
            transactions.stop();
        }
        // Leaving the group may take long, and commits nothing.
        self.core.confirmed.end();
        (report, Leaving(self.consumer))
    }

    /// Commits the last transaction while polling goes on, and returns whether it was committed.
    ///
    /// The failure of an earlier transaction is ignored. Its requests are not committed, so the
    /// partitions' next owners read them again.
    fn final_flush(&self, transactions: &Transactions) -> bool {
        const LIMIT: Duration = Duration::from_secs(12);
        const CHECK_INTERVAL: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + LIMIT;
        transactions.take_failure();
        let flush = transactions.flush();
        while !transactions.is_flushed(flush) && Instant::now() < deadline {
            transactions.replace_stuck_worker();
            self.consumer.poll(Duration::ZERO);
            thread::park_timeout(CHECK_INTERVAL);
        }
        transactions.is_flushed(flush) && !transactions.has_failed()
    }

    /// Commits all positions and waits for the answer. While the group rebalances, it refuses
    /// commits. This function then polls, which serves the rebalance and may revoke partitions, and
    /// commits the positions of the partitions that are left.
    fn final_commit(&mut self) -> Result<(), ClientError> {
        const LIMIT: Duration = Duration::from_secs(8);
        let deadline = Instant::now() + LIMIT;
        loop {
            let assignments = self.core.ledger.assignments().into_iter();
            let offsets = assignments.filter_map(|one| Some((one.partition, one.final_commit()?)));
            let offsets = offset_list(&self.core.topic, offsets);
            let left = deadline.saturating_duration_since(Instant::now());
            match native::commit_within(&self.consumer, &offsets, left) {
                Err(
                    RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::StaleMemberEpoch,
                ) if !left.is_zero() => {
                    self.core.poller.set_asleep(true);
                    self.poll_all();
                    self.sleep(BACKSTOP);
                }
                Ok(()) => {
                    self.consumer.context().confirmed(&offsets);
                    return Ok(());
                }
                Err(code) => return Err(ClientError::from_code(code)),
            }
        }
    }
}

/// A consumer that has made its last commit. Dropping it leaves the group, which can take long if
/// the brokers do not answer or the group is rebalancing.
pub(super) struct Leaving(
    #[expect(dead_code, reason = "held for its drop")] Arc<BaseConsumer<Group>>,
);

/// Whether an error ends the source: librdkafka does not recover from it by itself, or there is no
/// valid offset to read from.
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

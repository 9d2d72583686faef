//! `Poller`: the thread that polls librdkafka, from the first record to leaving the group.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::{Group, offset_list};
use super::record::Record;
use super::shared::{BACKSTOP, Shared, after};
use super::{CloseReport, Stats};
use crate::error::ClientError;
use crate::{Error, native};

/// How long a source that is full waits for room before it pauses its partitions. Pausing drops what librdkafka has
/// fetched ahead, so it is for pipelines that are stuck, not for those that are merely busy.
const PAUSE_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Poller {
    pub(super) consumer: BaseConsumer<Group>,
    pub(super) shared: Arc<Shared>,
    // As large as what may be in flight.
    pub(super) records: mpsc::Sender<Record>,
    pub(super) stop: CancellationToken,
    pub(super) commit_interval: Duration,
}

impl Poller {
    /// Polls until the source is closed, commits, and reports. Dropping what comes with the report leaves the group.
    pub(super) fn run(mut self) -> (Result<CloseReport, Error>, Leaving) {
        self.shared.poll_here();
        let wake = Arc::clone(&self.shared);
        self.consumer.set_nonempty_callback(move || wake.wake());
        let mut next_commit = after(self.commit_interval);
        let mut full_since = None;
        loop {
            if let Some(deadline) = self.shared.closing()
                && (self.shared.try_drain() || Instant::now() >= deadline)
            {
                return self.finish();
            }
            self.regulate(&mut full_since);
            if full_since.is_none() || self.is_paused() {
                self.poll_all();
            }
            let now = Instant::now();
            if now >= next_commit {
                self.commit();
                next_commit = after(self.commit_interval);
            }
            thread::park_timeout(BACKSTOP.min(next_commit.saturating_duration_since(now)));
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
    fn poll_all(&self) {
        while self.is_paused() || !self.is_full() {
            match self.consumer.poll(Duration::ZERO) {
                Some(polled) => self.take(polled),
                None if self.consumer.context().take_served() => {}
                None => return,
            }
        }
        // Full: look again at once, so that the time until pausing starts now.
        thread::current().unpark();
    }

    fn take(&self, polled: KafkaResult<BorrowedMessage<'_>>) {
        match polled {
            Ok(message) if !self.is_over() => {
                let Some(record) = Record::read(&message, &self.shared) else { return };
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
        let offsets = self.shared.assigned().into_iter().filter_map(|partition| {
            Some((partition, self.shared.assignment(partition)?.next_commit()?))
        });
        let offsets = offset_list(&self.shared.topic, offsets);
        if offsets.count() == 0 {
            return;
        }
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            self.consumer.context().commit_failed(&error, &offsets);
        }
    }

    fn finish(self) -> (Result<CloseReport, Error>, Leaving) {
        let Stats { held, .. } = self.shared.stats();
        let unresolved = self.shared.taken();
        let report = match self.commit_at_last() {
            Ok(()) => Ok(CloseReport { unresolved, held }),
            Err(source) => Err(Error::Commit { topic: self.shared.topic.to_string(), source }),
        };
        // The revocation that comes with leaving finds no assignment, and so waits for nothing.
        self.shared.revoke(&self.shared.assigned());
        (report, Leaving(self.consumer))
    }

    /// Commits whatever may be, and waits for the answer. The group refuses commits while it changes; then this serves
    /// the change, which may take partitions away, and commits what is left.
    fn commit_at_last(&self) -> Result<(), ClientError> {
        const LIMIT: Duration = Duration::from_secs(8);
        let deadline = Instant::now() + LIMIT;
        loop {
            let offsets = self.shared.assigned().into_iter().filter_map(|partition| {
                Some((partition, self.shared.assignment(partition)?.last_commit()?))
            });
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
pub(super) struct Leaving(#[expect(dead_code, reason = "held for its drop")] BaseConsumer<Group>);

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

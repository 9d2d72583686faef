//! `Group`: what happens when the consumer group gives partitions and takes them back.
//!
//! All callbacks run on the poll thread, inside of its poll. A revocation may therefore block polling for as long as
//! the drain lasts and two seconds for the commit, and no longer: `drain_timeout` bounds it, it is less than half of the
//! session timeout and of the longest poll interval (the configuration is checked for that), and librdkafka's own thread
//! goes on with heartbeats. What the drain waits for, the outcomes of records, comes from other threads and never needs
//! this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::assignment::Remains;
use super::shared::{Shared, after};
use crate::error::ClientError;
use crate::{Error, native};

pub(super) struct Group {
    pub(super) shared: Arc<Shared>,
    drain_timeout: Duration,
    // Whether what gets assigned begins paused.
    paused: AtomicBool,
    // Set by every callback: a poll that served one returns nothing although more may be waiting.
    served: AtomicBool,
}

impl Group {
    pub(super) fn new(shared: Arc<Shared>, drain_timeout: Duration) -> Self {
        let (paused, served) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared, drain_timeout, paused, served }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether a callback ran since the last call.
    pub(super) fn take_served(&self) -> bool {
        self.served.swap(false, Ordering::Relaxed)
    }

    /// Stops or restarts fetching, for what is assigned and for what will be.
    ///
    /// Pausing is synchronous in librdkafka: records that were fetched before and not polled yet are dropped, and read
    /// again from there on resuming, so no record comes out of a poll that follows.
    pub(super) fn set_paused(
        &self,
        consumer: &BaseConsumer<Self>,
        paused: bool,
    ) -> KafkaResult<()> {
        self.paused.store(paused, Ordering::Relaxed);
        let assigned = self.list(&self.shared.assigned());
        if paused { consumer.pause(&assigned) } else { consumer.resume(&assigned) }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.shared.topic, *partition);
        }
        list
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        assigned: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(assigned);
        tracing::info!(topic = %self.shared.topic, ?partitions, "assigned");
        for partition in &partitions {
            self.shared.assign(*partition);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(assigned)?,
            _ => consumer.assign(assigned)?,
        }
        if partitions.is_empty() {
            return Ok(());
        }
        // A partition that was paused when it was given back is still paused when it returns.
        if self.is_paused() { consumer.pause(assigned) } else { consumer.resume(assigned) }
    }

    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        revoked: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(revoked);
        if consumer.assignment_lost() {
            // Other members may have the partitions already, and may be further.
            let ended = self.shared.revoke(&partitions);
            tracing::warn!(topic = %self.shared.topic, ?partitions, unresolved = taken(&ended), "lost");
        } else {
            let deadline = after(self.drain_timeout);
            // While closing, whatever could be waited for has been waited for.
            let deadline = self.shared.closing().map_or(deadline, |close| close.min(deadline));
            self.shared.drain(&partitions, deadline);
            let ended = self.shared.revoke(&partitions);
            tracing::info!(topic = %self.shared.topic, ?partitions, unresolved = taken(&ended), "revoked");
            if let Err(error) = self.commit_now(consumer, &ended) {
                tracing::warn!(topic = %self.shared.topic, %error, "committing before giving partitions back failed");
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(revoked),
            _ => consumer.unassign(),
        }
    }

    /// Commits what ended assignments left, and waits for the answer up to a limit. The group may still be waiting for
    /// other members to learn of their new assignments, and refuses commits for that moment.
    fn commit_now(
        &self,
        consumer: &BaseConsumer<Self>,
        ended: &[(i32, Remains)],
    ) -> Result<(), ClientError> {
        const LIMIT: Duration = Duration::from_secs(2);
        const AGAIN: Duration = Duration::from_millis(50);
        let deadline = after(LIMIT);
        let offsets =
            ended.iter().filter_map(|(partition, remains)| Some((*partition, remains.commit?)));
        let offsets = offset_list(&self.shared.topic, offsets);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match native::commit_within(consumer, &offsets, left) {
                Err(RDKafkaErrorCode::RebalanceInProgress) if left > AGAIN => {
                    thread::park_timeout(AGAIN);
                }
                done => return done.map_err(ClientError::from_code),
            }
        }
    }

    /// Notes that a commit failed, so that the next one has its offsets again.
    pub(super) fn commit_failed(&self, error: &KafkaError, offsets: &TopicPartitionList) {
        tracing::warn!(topic = %self.shared.topic, %error, "commit failed, it is made again");
        for partition in partitions(offsets) {
            if let Some(assignment) = self.shared.assignment(partition) {
                assignment.commit_failed();
            }
        }
    }

    fn cannot_go_on(&self, error: KafkaError) {
        self.shared
            .fail(Error::Read { topic: self.shared.topic.to_string(), source: error.into() });
    }
}

/// A list of offsets to commit.
pub(super) fn offset_list(
    topic: &str,
    offsets: impl Iterator<Item = (i32, i64)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let offset = rdkafka::Offset::Offset(offset);
        // Fails for offsets that are not a place in a log only, and these were read from one.
        if let Err(error) = list.add_partition_offset(topic, partition, offset) {
            tracing::error!(topic, partition, %error, "offset not committed");
        }
    }
    list
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

fn taken(ended: &[(i32, Remains)]) -> usize {
    ended.iter().map(|(_, remains)| remains.taken).sum()
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.store(true, Ordering::Relaxed);
        crate::log::line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {
        self.served.store(true, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.store(true, Ordering::Relaxed);
        crate::log::error(&error, reason);
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.served.store(true, Ordering::Relaxed);
        let done = match event {
            Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        };
        if let Err(error) = done {
            self.cannot_go_on(error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.served.store(true, Ordering::Relaxed);
        if let Err(error) = result {
            self.commit_failed(&error, offsets);
        }
    }
}

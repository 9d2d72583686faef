//! `Group`: what happens when the consumer group gives partitions and takes them back.
//!
//! All callbacks run on the poll thread, inside of its poll, and none waits: a revocation is answered later, when what
//! is in flight has come to an end (see [`handover`](super::handover)).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;

use super::assignment::AssignmentEnd;
use super::handover::Handover;
use super::shared::{Shared, after, lock};
use crate::Error;

pub(super) struct Group {
    pub(super) shared: Arc<Shared>,
    drain_timeout: Duration,
    handover: Mutex<Option<Handover>>,
    // Whether what gets assigned begins paused.
    paused: AtomicBool,
    // Set by every callback: a poll that served one returns nothing although more may be waiting.
    served: AtomicBool,
}

impl Group {
    pub(super) fn new(shared: Arc<Shared>, drain_timeout: Duration) -> Self {
        let (paused, served) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared, drain_timeout, handover: Mutex::default(), paused, served }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether a callback ran since the last call.
    pub(super) fn take_served(&self) -> bool {
        self.served.swap(false, Ordering::Relaxed)
    }

    /// Stops or restarts fetching, for what is assigned and for what will be. Partitions that hand out nothing more
    /// stay paused.
    ///
    /// Pausing is synchronous in librdkafka: records that were fetched before and not polled yet are dropped, and read
    /// again from there on resuming, so no record comes out of a poll that follows.
    pub(super) fn set_paused(
        &self,
        consumer: &BaseConsumer<Self>,
        paused: bool,
    ) -> KafkaResult<()> {
        self.paused.store(paused, Ordering::Relaxed);
        let flowing = self.shared.assignments().into_iter().filter(|one| one.flows());
        let flowing = self.list(&flowing.map(|one| one.partition).collect::<Vec<_>>());
        if paused { consumer.pause(&flowing) } else { consumer.resume(&flowing) }
    }

    /// Stops or restarts fetching of partitions by themselves.
    pub(super) fn set_flowing(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
        flowing: bool,
    ) -> KafkaResult<()> {
        let list = self.list(partitions);
        match flowing {
            false => consumer.pause(&list),
            true if self.is_paused() => Ok(()),
            true => consumer.resume(&list),
        }
    }

    pub(super) fn list(&self, partitions: &[i32]) -> TopicPartitionList {
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
            self.shared.assign_anew(*partition);
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

    /// Takes partitions away: at once where they are lost or nothing is waited for any more; otherwise a handover
    /// begins, which the poll thread ends. Until then librdkafka waits for the answer.
    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        revoked: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(revoked);
        if consumer.assignment_lost() {
            return self.lose(consumer, revoked);
        }
        if self.shared.is_leaving() {
            // Everything has been committed, and nobody polls any more.
            self.shared.revoke(&partitions);
            return unassign(consumer, revoked);
        }
        tracing::debug!(topic = %self.shared.topic, ?partitions, "handing over");
        self.shared.drain(&partitions);
        consumer.pause(revoked)?;
        self.shared.set_handing_over(partitions.len());
        let deadline = after(self.drain_timeout);
        *lock(&self.handover) = Some(Handover { list: revoked.clone(), partitions, deadline });
        Ok(())
    }

    /// Gives partitions up that other members may have already, and may be further in: nothing is committed.
    pub(super) fn lose(
        &self,
        consumer: &BaseConsumer<Self>,
        lost: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(lost);
        let ended = self.shared.revoke(&partitions);
        tracing::warn!(topic = %self.shared.topic, ?partitions, unresolved = taken(&ended), "lost");
        unassign(consumer, lost)
    }

    /// The handover under way, if there is one.
    pub(super) fn handover(&self) -> MutexGuard<'_, Option<Handover>> {
        lock(&self.handover)
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

/// Answers a revocation.
pub(super) fn unassign(
    consumer: &BaseConsumer<Group>,
    revoked: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(revoked),
        _ => consumer.unassign(),
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

pub(super) fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

pub(super) fn taken(ended: &[(i32, AssignmentEnd)]) -> usize {
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

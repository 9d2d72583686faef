//! `Group`: the callbacks by which the consumer group assigns and revokes partitions.
//!
//! All callbacks run on the poll thread, within its polls, and none waits: a revocation is answered
//! later, when the records in flight are settled (see [`handover`](super::handover)).

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::assignment::handed_out;
use super::core::{Core, after};
use super::lists::{partitions, unassign};
use super::membership::Membership;
use crate::Error;
use crate::connections::{self, Connections};

pub(super) struct Group {
    pub(super) core: Arc<Core>,
    pub(super) membership: Membership,
    drain_timeout: Duration,
    revoked: Mutex<Option<Revoked>>,
    // Whether the whole source is paused. Partitions assigned meanwhile begin paused.
    paused: AtomicBool,
    // Set by every callback: a poll that serves one returns no record although more may be waiting.
    served: AtomicBool,
    connections: Connections,
    // Whether the last commit failed.
    commits_fail: AtomicBool,
}

/// A revocation that is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Revoked {
    pub(super) list: TopicPartitionList,
    pub(super) partitions: Vec<i32>,
    /// The time at which the partitions are given back even if records are still in flight. The
    /// next owner reads these records again.
    pub(super) deadline: Instant,
}

impl Group {
    pub(super) fn new(core: Arc<Core>, membership: Membership, drain_timeout: Duration) -> Self {
        Self {
            core,
            membership,
            drain_timeout,
            revoked: Mutex::default(),
            paused: AtomicBool::new(false),
            served: AtomicBool::new(false),
            connections: Connections::default(),
            commits_fail: AtomicBool::new(false),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether a callback ran since the last call.
    pub(super) fn take_served(&self) -> bool {
        self.served.swap(false, Ordering::Relaxed)
    }

    /// Pauses or resumes fetching of all partitions, including those that are assigned later.
    /// Partitions that are closed or throttled stay paused.
    ///
    /// Pausing is synchronous in librdkafka: records that were fetched and not polled yet are
    /// dropped, and fetched again after resuming. So the polls that follow return no record.
    pub(super) fn set_paused(
        &self,
        consumer: &BaseConsumer<Self>,
        paused: bool,
    ) -> KafkaResult<()> {
        self.paused.store(paused, Ordering::Relaxed);
        let fetching = self.core.ledger.assignments().into_iter().filter(|one| one.may_fetch());
        let fetching = self.list(&fetching.map(|one| one.partition).collect::<Vec<_>>());
        if paused { consumer.pause(&fetching) } else { consumer.resume(&fetching) }
    }

    /// Pauses or resumes fetching of single partitions. While the whole source is paused, none is
    /// resumed.
    pub(super) fn set_fetching(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
        fetching: bool,
    ) -> KafkaResult<()> {
        let list = self.list(partitions);
        match fetching {
            false => consumer.pause(&list),
            true if self.is_paused() => Ok(()),
            true => consumer.resume(&list),
        }
    }

    pub(super) fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.core.topic, *partition);
        }
        list
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        assigned: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(assigned);
        tracing::info!(topic = %self.core.topic, ?partitions, "partitions assigned");
        self.membership.assigned();
        for partition in &partitions {
            self.core.confirmed.assigned(*partition);
            self.core.ledger.assign_anew(*partition);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(assigned)?,
            _ => consumer.assign(assigned)?,
        }
        if partitions.is_empty() {
            return Ok(());
        }
        // A partition that was paused when it was given back is still paused in librdkafka when it
        // is assigned again.
        if self.is_paused() { consumer.pause(assigned) } else { consumer.resume(assigned) }
    }

    /// Handles a revocation. If the partitions are lost, or if the last commit is made, gives them
    /// up at once. Otherwise begins a handover, which the poll thread ends; until then librdkafka
    /// waits for the answer.
    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        revoked: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(revoked);
        if consumer.assignment_lost() {
            return self.lose(consumer, revoked);
        }
        if self.core.end.is_leaving() {
            // The last commit is made, and the poll thread no longer polls.
            self.core.ledger.revoke(&partitions);
            return unassign(consumer, revoked);
        }
        tracing::debug!(topic = %self.core.topic, ?partitions, "handing partitions over");
        self.core.ledger.drain(&partitions);
        consumer.pause(revoked)?;
        self.core.ledger.set_handing_over(partitions.len());
        let deadline = after(self.drain_timeout);
        *self.revoked.lock() = Some(Revoked { list: revoked.clone(), partitions, deadline });
        Ok(())
    }

    /// Gives up lost partitions without a commit: other members may own them already, and may have
    /// committed more.
    pub(super) fn lose(
        &self,
        consumer: &BaseConsumer<Self>,
        lost: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions(lost);
        let ended = self.core.ledger.revoke(&partitions);
        tracing::warn!(topic = %self.core.topic, ?partitions, unresolved = handed_out(&ended), "partitions lost");
        unassign(consumer, lost)
    }

    /// Returns the revocation that is not answered yet, if there is one.
    pub(super) fn revoked(&self) -> MutexGuard<'_, Option<Revoked>> {
        self.revoked.lock()
    }

    /// Notes that a commit failed, so that the next one includes its offsets again.
    pub(super) fn commit_failed(&self, error: &KafkaError, offsets: &TopicPartitionList) {
        if self.commits_fail.swap(true, Ordering::Relaxed) {
            tracing::debug!(topic = %self.core.topic, %error, "commit failed again");
        } else {
            tracing::warn!(topic = %self.core.topic, %error, "commit failed, it is repeated");
        }
        for partition in partitions(offsets) {
            if let Some(assignment) = self.core.ledger.assignment(partition) {
                assignment.commit_failed();
            }
        }
    }

    /// Notes that the brokers have confirmed a commit of these offsets.
    pub(super) fn confirmed(&self, offsets: &TopicPartitionList) {
        for element in offsets.elements() {
            if let Offset::Offset(offset) = element.offset() {
                self.core.confirmed.add(element.partition(), offset);
            }
        }
    }

    fn fail(&self, error: KafkaError) {
        self.core.fail(Error::Read { topic: self.core.topic.to_string(), source: error.into() });
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.store(true, Ordering::Relaxed);
        self.connections.log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.served.store(true, Ordering::Relaxed);
        if (self.connections.needs_update() || self.membership.needs_update())
            && let Some(statistics) = connections::statistics(json)
        {
            self.connections.update(&statistics);
            self.membership.update(&statistics);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.store(true, Ordering::Relaxed);
        let code = error.rdkafka_error_code();
        if code.is_some_and(|code| self.membership.refused(code)) {
            tracing::debug!(target: "librdkafka", %error, "{reason}");
        } else {
            crate::log::error(&error, reason);
        }
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
            self.fail(error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.served.store(true, Ordering::Relaxed);
        if let Err(error) = result {
            return self.commit_failed(&error, offsets);
        }
        if self.commits_fail.swap(false, Ordering::Relaxed) {
            tracing::info!(topic = %self.core.topic, "offsets are committed again");
        }
        // librdkafka reports an error even if only one of the partitions was refused.
        self.confirmed(offsets);
    }
}

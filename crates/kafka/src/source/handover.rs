//! `Handover`: giving partitions back when what is in flight of them has ended, while polling goes on.
//!
//! librdkafka waits for the answer to a revocation without blocking: heartbeats, polls and commits go on. It fetches
//! nothing meanwhile, of the other partitions neither; what had been read of them is worked on. So the callback only
//! closes the partitions; the poll thread looks after every outcome whether all are known, commits, and answers. The
//! partitions' next owner begins where this member ended.

use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use super::assignment::AssignmentEnd;
use super::group::{Group, offset_list, taken, unassign};
use super::shared::{Shared, after};
use crate::error::ClientError;
use crate::native;

/// A revocation that is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    pub(super) list: TopicPartitionList,
    pub(super) partitions: Vec<i32>,
    /// When it is answered at the latest. What is in flight then is read again by whoever gets the partitions.
    pub(super) deadline: Instant,
}

impl Handover {
    /// Whether it can end: nothing is in flight, or the time is up.
    pub(super) fn is_due(&self, shared: &Shared) -> bool {
        shared.is_drained(&self.partitions) || Instant::now() >= self.deadline
    }

    /// Ends the assignments, commits what they left, and gives the partitions back.
    pub(super) fn end(&self, consumer: &BaseConsumer<Group>, shared: &Shared) -> KafkaResult<()> {
        shared.drained();
        shared.set_handing_over(0);
        if consumer.assignment_lost() {
            return consumer.context().lose(consumer, &self.list);
        }
        let ended = shared.revoke(&self.partitions);
        let unresolved = taken(&ended);
        tracing::info!(topic = %shared.topic, partitions = ?self.partitions, unresolved, "revoked");
        if let Err(error) = commit(consumer, shared, &ended) {
            tracing::warn!(topic = %shared.topic, %error, "committing before giving partitions back failed");
        }
        unassign(consumer, &self.list)
    }
}

/// Commits what ended assignments left, and waits for the answer up to a limit. The group may still be waiting for
/// other members to learn of their new assignments, and refuses commits for that moment.
fn commit(
    consumer: &BaseConsumer<Group>,
    shared: &Shared,
    ended: &[(i32, AssignmentEnd)],
) -> Result<(), ClientError> {
    const LIMIT: Duration = Duration::from_secs(2);
    const AGAIN: Duration = Duration::from_millis(50);
    let deadline = after(LIMIT);
    let offsets =
        ended.iter().filter_map(|(partition, remains)| Some((*partition, remains.commit?)));
    let offsets = offset_list(&shared.topic, offsets);
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

//! The handover: gives revoked partitions back once their records in flight are settled, while
//! polling goes on.
//!
//! The answer to a revocation is a call of [`unassign`], which gives the partitions back.
//! librdkafka does not need it within the rebalance callback: while it waits for the answer,
//! heartbeats, polls and commits go on, and records that were read before are processed. Only
//! fetching stops, also for the partitions that stay assigned.
//!
//! Therefore the rebalance callback only stops handing out records of the revoked partitions. The
//! poll thread checks after every outcome whether all of their records are settled. When they are,
//! it commits and answers, so the partitions' next owner begins where this member ended.

use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use tokio::time::Instant;

use super::assignment::{AssignmentEnd, handed_out};
use super::core::{Core, after};
use super::group::{Group, Revoked};
use super::lists::{offset_list, unassign};
use crate::error::ClientError;
use crate::native;

/// Whether a handover can end: all records that were handed out are settled, or the deadline has
/// passed.
pub(super) fn is_due(revoked: &Revoked, core: &Core) -> bool {
    core.ledger.is_drained(&revoked.partitions) || Instant::now() >= revoked.deadline
}

/// Ends the assignments, commits their positions, and gives the partitions back.
pub(super) fn end(
    revoked: &Revoked,
    consumer: &BaseConsumer<Group>,
    core: &Core,
) -> KafkaResult<()> {
    core.ledger.end_drain();
    core.ledger.set_handing_over(0);
    if consumer.assignment_lost() {
        return consumer.context().lose(consumer, &revoked.list);
    }
    let ended = core.ledger.revoke(&revoked.partitions);
    let unresolved = handed_out(&ended);
    tracing::info!(topic = %core.topic, partitions = ?revoked.partitions, unresolved, "partitions revoked");
    if let Err(error) = commit(consumer, core, &ended) {
        tracing::warn!(topic = %core.topic, %error, "the positions of revoked partitions were not committed");
    }
    unassign(consumer, &revoked.list)
}

/// Commits the positions of ended assignments and waits up to two seconds for the answer. Within
/// that time, repeats a commit that the brokers refuse because the group is rebalancing.
fn commit(
    consumer: &BaseConsumer<Group>,
    core: &Core,
    ended: &[(i32, AssignmentEnd)],
) -> Result<(), ClientError> {
    const LIMIT: Duration = Duration::from_secs(2);
    const AGAIN: Duration = Duration::from_millis(50);
    let deadline = after(LIMIT);
    let offsets = ended.iter().filter_map(|(partition, end)| Some((*partition, end.commit?)));
    let offsets = offset_list(&core.topic, offsets);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match native::commit_within(consumer, &offsets, left) {
            Err(RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::StaleMemberEpoch)
                if left > AGAIN =>
            {
                thread::park_timeout(AGAIN);
            }
            Ok(()) => {
                consumer.context().confirmed(&offsets);
                return Ok(());
            }
            Err(error) => return Err(ClientError::from_code(error)),
        }
    }
}

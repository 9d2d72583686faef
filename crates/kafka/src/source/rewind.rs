//! Rewinding: after a failed transaction, partitions are read again from their committed offsets.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::core::Core;
use super::group::Group;
use super::lists::partitions;

/// How long each blocking call may hold up the poll thread.
const TRY: Duration = Duration::from_secs(2);

/// Reads partitions again whose assignments were ended by a failed transaction.
///
/// These are the partitions that the group has assigned to this member and for which `core` has
/// no `Assignment`, except those that are being handed over. Each of them is read in a new
/// assignment, from its committed offset, or from the first offset that this member read if none is
/// committed.
///
/// Fails while a transaction that contains offsets of these partitions is still open, because the
/// group's coordinator does not return their committed offsets then. After an error, call this
/// again.
pub(super) fn rewind(consumer: &BaseConsumer<Group>, core: &Core) -> KafkaResult<()> {
    let group = consumer.context();
    let leaving = group.revoked().as_ref().map(|revoked| revoked.partitions.clone());
    let leaving = leaving.unwrap_or_default();
    let owned = partitions(&consumer.assignment()?);
    let void = |partition: &i32| {
        core.ledger.assignment(*partition).is_none() && !leaving.contains(partition)
    };
    let void: Vec<i32> = owned.into_iter().filter(void).collect();
    if void.is_empty() {
        return Ok(());
    }
    let list = group.list(&void);
    consumer.pause(&list)?;
    let committed = consumer.committed_offsets(list.clone(), TRY)?;
    let mut offsets = TopicPartitionList::with_capacity(void.len());
    for element in committed.elements() {
        let partition = element.partition();
        let offset = match element.offset() {
            Offset::Offset(offset) => {
                // The outcome of the failed transaction may be unknown. If this offset was
                // committed since the partition was assigned, it is known now.
                if core.ledger.first_read(partition).is_some_and(|first| first < offset) {
                    core.confirmed.add(partition, offset);
                }
                Some(offset)
            }
            _ => core.ledger.first_read(partition),
        };
        // If nothing is committed and nothing was read, the consumer has not moved from where it
        // began.
        if let Some(offset) = offset {
            offsets.add_partition_offset(&core.topic, partition, Offset::Offset(offset))?;
        }
    }
    if offsets.count() > 0 {
        for element in consumer.seek_partitions(offsets, TRY)?.elements() {
            element.error()?;
        }
    }
    tracing::info!(topic = %core.topic, partitions = ?void, "rewound to the committed offsets");
    for partition in void {
        core.ledger.assign(partition);
    }
    if group.is_paused() { Ok(()) } else { consumer.resume(&list) }
}

//! Rewinding: after a failed transaction, partitions are read again from their committed offsets.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::group::{Group, partitions};
use super::shared::Shared;

/// How long each blocking call may hold up the poll thread.
const TRY: Duration = Duration::from_secs(2);

/// Seeks every partition that this member owns without an assignment to its committed offset, or to
/// the first offset that was read if none is committed. From there the partition is read in a new
/// assignment. Partitions that are being handed over are left alone.
///
/// The group's coordinator answers only when no transaction is open on these offsets. After an
/// error, call this again.
pub(super) fn rewind(consumer: &BaseConsumer<Group>, shared: &Shared) -> KafkaResult<()> {
    let group = consumer.context();
    let leaving = group.handover().as_ref().map(|handover| handover.partitions.clone());
    let leaving = leaving.unwrap_or_default();
    let owned = partitions(&consumer.assignment()?);
    let void =
        |partition: &i32| shared.assignment(*partition).is_none() && !leaving.contains(partition);
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
            Offset::Offset(offset) => Some(offset),
            _ => shared.first_read(partition),
        };
        // If nothing of the partition was read, it is still where reading began.
        if let Some(offset) = offset {
            offsets.add_partition_offset(&shared.topic, partition, Offset::Offset(offset))?;
        }
    }
    if offsets.count() > 0 {
        for element in consumer.seek_partitions(offsets, TRY)?.elements() {
            element.error()?;
        }
    }
    tracing::info!(topic = %shared.topic, partitions = ?void, "rewound to the committed offsets");
    for partition in void {
        shared.assign(partition);
    }
    if group.is_paused() { Ok(()) } else { consumer.resume(&list) }
}

//! Rewinding: after a transaction that failed, partitions are read again from what is committed.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::group::{Group, partitions};
use super::shared::Shared;

/// How long one try may block the poll thread.
const TRY: Duration = Duration::from_secs(2);

/// Takes every partition that this member owns and does not read any more to where its offset is committed, or to the
/// first offset that was read where none is; from there it is read in a new assignment.
///
/// The group's coordinator answers only when no transaction is open on these offsets. On an error, try again.
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
    let mut places = TopicPartitionList::with_capacity(void.len());
    for element in committed.elements() {
        let partition = element.partition();
        let place = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => shared.began(partition),
        };
        // Nothing of it was read: it is where it was.
        if let Some(offset) = place {
            places.add_partition_offset(&shared.topic, partition, Offset::Offset(offset))?;
        }
    }
    if places.count() > 0 {
        for element in consumer.seek_partitions(places, TRY)?.elements() {
            element.error()?;
        }
    }
    tracing::info!(topic = %shared.topic, partitions = ?void, "rewound to what is committed");
    for partition in void {
        shared.assign(partition);
    }
    if group.is_paused() { Ok(()) } else { consumer.resume(&list) }
}

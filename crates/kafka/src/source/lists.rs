//! Lists of partitions and offsets, as librdkafka takes them.

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};

/// Returns a list of offsets to commit.
pub(super) fn offset_list(
    topic: &str,
    offsets: impl Iterator<Item = (i32, i64)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        // This fails only for negative offsets, which no record has.
        if let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(offset)) {
            tracing::error!(topic, partition, %error, "offset not committed");
        }
    }
    list
}

pub(super) fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

/// Answers a revocation: gives the partitions back.
pub(super) fn unassign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    revoked: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(revoked),
        _ => consumer.unassign(),
    }
}

//! The settings of the bare loop, which equal those of Forebay's source and sink
//! (`crates/kafka/src/config.rs`).

use rdkafka::ClientConfig;

/// Time between two commits: the default of Forebay's source.
pub(crate) const COMMIT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Length of a transaction, Forebay's default.
pub(crate) const TRANSACTION: std::time::Duration = std::time::Duration::from_millis(100);

pub(crate) fn consumer(brokers: &str, group: &str) -> ClientConfig {
    let mut client = client(brokers);
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "earliest")
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10");
    client
}

pub(crate) fn producer(brokers: &str) -> ClientConfig {
    let mut client = client(brokers);
    client
        .set("message.max.bytes", "1048588")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "1");
    client
}

pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client
}

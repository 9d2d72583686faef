//! The options of librdkafka that Forebay sets, and those that it reserves.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::{brokers, sasl};
use crate::{Error, Options};

const OWN_COMMITS: &str = "leave it out; Forebay commits an offset once its record is answered";
const BROKERS: &str = "use `brokers`";
const DELIVERY: &str = "use `delivery_timeout`";
const TRANSACTIONS: &str = "use the source's `delivery` and `transactions`";
const DELIVERIES: &str = "leave it out; Forebay waits for the delivery of every reply";
const IDEMPOTENCE: &str = "leave it out; Forebay writes idempotently, confirmed by all replicas";

/// How often librdkafka asks about its topics, and so the time after which a deleted topic or new
/// partitions are noticed. librdkafka's default is five minutes.
const REFRESH: (&str, &str) = ("topic.metadata.refresh.interval.ms", "5000");

/// How long librdkafka waits for a topic that the brokers do not know. Forebay has found its topics
/// when it connected. librdkafka's default is thirty seconds.
const PROPAGATION: (&str, &str) = ("topic.metadata.propagation.max.ms", "5000");

/// Makes librdkafka look for the system's certificates, which the compiled-in OpenSSL does not find
/// by itself.
const CA_CERTIFICATES: (&str, &str) = ("ssl.ca.location", "probe");

/// Maximum pause between attempts to reconnect. librdkafka's default, 10 s, is longer than most
/// brokers take to restart, and can be longer than the session timeout.
const RECONNECT: (&str, &str) = ("reconnect.backoff.max.ms", "1000");

/// Defaults that a user may override.
pub(super) const SOURCE_DEFAULTS: &[(&str, &str)] = &[
    CA_CERTIFICATES,
    RECONNECT,
    REFRESH,
    PROPAGATION,
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "earliest"),
    // librdkafka's defaults (100 000 records, 64 MiB per partition) would hold far more than the
    // pipeline can have in flight.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "16384"),
    // How soon a partition is fetched again after its queue was full. librdkafka's default, one
    // second, would allow each partition one fetch per second.
    ("fetch.queue.backoff.ms", "10"),
];

pub(super) const SOURCE_RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("group.id", "use `group`"),
    ("enable.auto.commit", OWN_COMMITS),
    ("auto.commit.enable", OWN_COMMITS),
    ("auto.commit.interval.ms", "use `commit_interval`"),
    ("enable.auto.offset.store", OWN_COMMITS),
    ("isolation.level", "leave it out; Forebay reads committed records only"),
    ("allow.auto.create.topics", "leave it out; Forebay expects its topics to exist"),
];

pub(super) const SINK_DEFAULTS: &[(&str, &str)] = &[
    CA_CERTIFICATES,
    RECONNECT,
    REFRESH,
    PROPAGATION,
    // The brokers' default. librdkafka's default, 1 MB, is lower. A reply carries its request's key
    // and headers: if these were larger than 1 MB, the brokers would accept the request, but no
    // reply could be written to it, not even an error.
    ("message.max.bytes", "1048588"),
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // The partitioner of Java clients, so that replies are in the partition where these expect
    // their key.
    ("partitioner", "murmur2_random"),
    // A lone reply leaves at once. The replies of a batch come together, so nearly all of them still
    // share a request.
    ("linger.ms", "0"),
];

pub(super) const SINK_RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("enable.idempotence", IDEMPOTENCE),
    ("acks", IDEMPOTENCE),
    ("request.required.acks", IDEMPOTENCE),
    ("message.timeout.ms", DELIVERY),
    ("delivery.timeout.ms", DELIVERY),
    ("transactional.id", TRANSACTIONS),
    ("transaction.timeout.ms", TRANSACTIONS),
    ("delivery.report.only.error", DELIVERIES),
];

pub(super) type Settings = &'static [(&'static str, &'static str)];

pub(super) fn client(
    brokers: &str,
    options: &Options,
    defaults: Settings,
    reserved: Settings,
) -> Result<ClientConfig, Error> {
    let brokers = brokers::addresses(brokers, options)?;
    sasl::check(options)?;
    let mut client = ClientConfig::new();
    client.set("client.id", "forebay").set("bootstrap.servers", brokers);
    client.set_log_level(RDKafkaLogLevel::Info);
    for (option, value) in defaults {
        client.set(*option, *value);
    }
    for (option, value) in options {
        if let Some((_, instead)) = reserved.iter().find(|(name, _)| name == option) {
            return Err(Error::ReservedOption { option: option.clone(), instead });
        }
        client.set(option, value);
    }
    Ok(client)
}

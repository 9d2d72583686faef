//! Settings of sources and sinks. All but brokers, topics and groups have defaults.

use std::num::NonZeroUsize;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::{DropHeaders, Error, Options, ReplyTo};

/// Settings of a source, which reads a topic as a member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Bootstrap servers, `host:port`, comma separated.
    pub brokers: String,
    /// The topic to read.
    pub topic: String,
    /// The consumer group; offsets are committed under this name.
    pub group: String,
    /// The delivery guarantee: how often a request may be answered if something crashes.
    pub delivery: Delivery,
    /// Maximum number of records that are read and not settled, including those that wait in the
    /// source's channel. With exactly-once delivery, a record whose reply waits for its transaction
    /// does not count.
    pub max_in_flight: NonZeroUsize,
    /// Maximum size of these records in bytes, including keys, headers and a fixed overhead. The
    /// last record that was read may exceed it. With exactly-once delivery, records and their
    /// replies count until they are committed.
    pub max_in_flight_bytes: NonZeroUsize,
    /// Maximum number of records that are read from one partition while its oldest one is not done,
    /// that one included. A partition that reaches it is paused until that record is done, while
    /// the others go on. This bounds how many records are read again after a crash.
    pub max_uncommitted: NonZeroUsize,
    /// Time after which a record without an answer is reported as stuck.
    pub stuck_after: Duration,
    /// Interval between commits of offsets. With exactly-once delivery, the interval of the
    /// transactions counts instead.
    pub commit_interval: Duration,
    /// Maximum time that a rebalance waits for records in flight before it hands their partitions
    /// over. Must be less than half of `session.timeout.ms` and of `max.poll.interval.ms`.
    pub drain_timeout: Duration,
    /// The reaction to a failed record that nothing in the pipeline answered.
    pub on_unanswered: OnUnanswered,
    /// Settings of librdkafka.
    pub options: Options,
}

/// The delivery guarantee: how often a request may be answered if something crashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// A request may be answered twice: its offset is committed after its answer is confirmed.
    #[default]
    AtLeastOnce,
    /// A reader of committed records only sees one answer to each request: answers and offsets are
    /// written in one transaction, by the source's own [`sink`](crate::Source::sink).
    ExactlyOnce(TransactionSettings),
}

/// Settings of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSettings {
    /// The `transactional.id`: unique in the cluster, and the same after a restart, so that a
    /// restart ends a transaction that a crash left open. `None` generates one; then a transaction
    /// that a crash left open stays open until its timeout.
    pub id: Option<String>,
    /// How long a transaction collects replies before it is committed, which is also the longest
    /// time that a reply waits for it. A transaction is committed sooner if it takes half of
    /// [`max_in_flight_bytes`](SourceConfig::max_in_flight_bytes).
    pub commit_interval: Duration,
    /// How long the brokers keep a transaction open. This bounds how long a crash holds up readers
    /// of committed records, and how long a commit may take.
    pub timeout: Duration,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            id: None,
            commit_interval: Duration::from_millis(100),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The reaction to a failed record that nothing in the pipeline answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnanswered {
    /// The source ends with an error.
    #[default]
    Stop,
    /// The record's partition is read no further until a restart; the others go on.
    HaltPartition,
}

/// Settings of a sink, which writes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Bootstrap servers, `host:port`, comma separated.
    pub brokers: String,
    /// The topic to write.
    pub topic: String,
    /// Maximum time that a record waits for its confirmation, retries included; then its receipt
    /// fails.
    pub delivery_timeout: Duration,
    /// The targets that requests may name for their replies.
    pub reply_to: ReplyTo,
    /// The headers of a request that its reply does not get.
    pub drop_headers: DropHeaders,
    /// Settings of librdkafka.
    pub options: Options,
}

impl SourceConfig {
    /// Returns settings that read `topic` at `brokers` for `group`, with defaults for the rest.
    pub fn new(
        brokers: impl Into<String>,
        topic: impl Into<String>,
        group: impl Into<String>,
    ) -> Self {
        const MAX_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");
        const MAX_BYTES: NonZeroUsize = NonZeroUsize::new(16 << 20).expect("16 MiB is not zero");
        const MAX_UNCOMMITTED: NonZeroUsize =
            NonZeroUsize::new(10_000).expect("10,000 is not zero");
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            group: group.into(),
            delivery: Delivery::default(),
            max_in_flight: MAX_IN_FLIGHT,
            max_in_flight_bytes: MAX_BYTES,
            max_uncommitted: MAX_UNCOMMITTED,
            stuck_after: Duration::from_secs(30),
            commit_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            on_unanswered: OnUnanswered::default(),
            options: Options::new(),
        }
    }

    /// Checks everything that can be checked without connecting.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting and says what would be valid.
    pub fn validate(&self) -> Result<(), Error> {
        validate(&self.client()?)
    }

    /// Returns the settings of librdkafka's consumer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting and says what would be valid.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        check_name("topic", &self.topic)?;
        check_name("group", &self.group)?;
        self.check_drain_timeout()?;
        self.check_transactions()?;
        if self.max_in_flight.get() > MAX_IN_FLIGHT_LIMIT {
            let reason = format!("{} is more than {MAX_IN_FLIGHT_LIMIT}", self.max_in_flight);
            return Err(Error::Setting { setting: "max_in_flight", reason });
        }
        let mut client = client(&self.brokers, &self.options, SOURCE_DEFAULTS, SOURCE_RESERVED)?;
        client.set("group.id", &self.group);
        Ok(client)
    }

    /// Checks that a drain ends well before the group removes this member for not answering.
    fn check_drain_timeout(&self) -> Result<(), Error> {
        let session = millis(&self.options, "session.timeout.ms", 45_000)?;
        let max_poll = millis(&self.options, "max.poll.interval.ms", 300_000)?;
        let limit = session.min(max_poll) / 2;
        if self.drain_timeout < limit {
            return Ok(());
        }
        let reason = format!(
            "{:?} is not less than {limit:?}, half of session.timeout.ms and max.poll.interval.ms",
            self.drain_timeout
        );
        Err(Error::Setting { setting: "drain_timeout", reason })
    }
}

impl SourceConfig {
    /// Checks that a transaction ends before the group removes this member for not answering, and
    /// that it is committed well before its timeout.
    fn check_transactions(&self) -> Result<(), Error> {
        let Delivery::ExactlyOnce(transactions) = &self.delivery else { return Ok(()) };
        let session = millis(&self.options, "session.timeout.ms", 45_000)?;
        let TransactionSettings { id, commit_interval, timeout } = transactions;
        let (setting, reason) = if id.as_ref().is_some_and(|id| id.trim().is_empty()) {
            ("transactions.id", "it is empty".to_owned())
        } else if *timeout >= session {
            let reason = format!("{timeout:?} is not less than session.timeout.ms, {session:?}");
            ("transactions.timeout", reason)
        } else if *timeout < Duration::from_secs(1) {
            ("transactions.timeout", format!("{timeout:?} is less than a second"))
        } else if *commit_interval > *timeout / 2 {
            let reason =
                format!("{commit_interval:?} is more than half of the timeout, {timeout:?}");
            ("transactions.commit_interval", reason)
        } else {
            return Ok(());
        };
        Err(Error::Setting { setting, reason })
    }
}

impl SinkConfig {
    /// Returns settings that write `topic` at `brokers`, with defaults for the rest.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            delivery_timeout: Duration::from_mins(1),
            reply_to: ReplyTo::default(),
            drop_headers: DropHeaders::default(),
            options: Options::new(),
        }
    }

    /// Checks everything that can be checked without connecting.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting and says what would be valid.
    pub fn validate(&self) -> Result<(), Error> {
        validate(&self.client()?)
    }

    /// Returns the settings of librdkafka's producer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting and says what would be valid.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let mut client = self.unbounded_client()?;
        client.set("message.timeout.ms", self.delivery_timeout.as_millis().max(1).to_string());
        Ok(client)
    }

    /// Returns the settings of a client that writes in transactions. They have no
    /// `message.timeout.ms`, because the transaction's timeout also applies to its records.
    pub(crate) fn transactional_client(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<ClientConfig, Error> {
        let mut client = self.unbounded_client()?;
        client.set("transactional.id", id);
        client.set("transaction.timeout.ms", timeout.as_millis().to_string());
        // A transaction is committed once no delivery is outstanding, so successful deliveries need
        // no report.
        client.set("delivery.report.only.error", "true");
        Ok(client)
    }

    fn unbounded_client(&self) -> Result<ClientConfig, Error> {
        check_name("topic", &self.topic)?;
        self.reply_to.validate()?;
        client(&self.brokers, &self.options, SINK_DEFAULTS, SINK_RESERVED)
    }
}

/// Upper limit of `max_in_flight`, far beyond any useful value.
const MAX_IN_FLIGHT_LIMIT: usize = 10_000_000;

const OWN_COMMITS: &str = "Forebay commits an offset once its record is answered";
const BROKERS: &str = "use `brokers`";
const DELIVERY: &str = "use `delivery_timeout`";
const TRANSACTIONS: &str = "use the source's `delivery` and `transactions`";
const DELIVERIES: &str = "Forebay waits for the delivery of every reply";
const IDEMPOTENCE: &str = "Forebay writes idempotently, confirmed by all replicas";

/// Makes librdkafka look for the system's certificates, which the compiled-in OpenSSL does not find
/// by itself.
const CA_CERTIFICATES: (&str, &str) = ("ssl.ca.location", "probe");

/// Maximum pause between attempts to reconnect. librdkafka's default, 10 s, is longer than most
/// brokers take to restart, and can be longer than the session timeout.
const RECONNECT: (&str, &str) = ("reconnect.backoff.max.ms", "1000");

/// Defaults that a user may override.
const SOURCE_DEFAULTS: &[(&str, &str)] = &[
    CA_CERTIFICATES,
    RECONNECT,
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("auto.offset.reset", "earliest"),
    // librdkafka's defaults (100 000 records, 64 MiB per partition) would hold far more than the
    // pipeline can have in flight.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "16384"),
    // How soon a partition is fetched again after its queue was full. librdkafka's default, one
    // second, would allow each partition one fetch per second.
    ("fetch.queue.backoff.ms", "10"),
];

const SOURCE_RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("group.id", "use `group`"),
    ("enable.auto.commit", OWN_COMMITS),
    ("auto.commit.enable", OWN_COMMITS),
    ("auto.commit.interval.ms", "use `commit_interval`"),
    ("enable.auto.offset.store", OWN_COMMITS),
    ("isolation.level", "Forebay reads committed records only"),
    ("allow.auto.create.topics", "Forebay expects its topics to exist"),
];

const SINK_DEFAULTS: &[(&str, &str)] = &[
    CA_CERTIFICATES,
    RECONNECT,
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

const SINK_RESERVED: &[(&str, &str)] = &[
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

type Settings = &'static [(&'static str, &'static str)];

fn client(
    brokers: &str,
    options: &Options,
    defaults: Settings,
    reserved: Settings,
) -> Result<ClientConfig, Error> {
    if brokers.trim().is_empty() {
        let reason = "at least one host:port is needed".to_owned();
        return Err(Error::Setting { setting: "brokers", reason });
    }
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

/// Lets librdkafka check every option's name and value.
fn validate(client: &ClientConfig) -> Result<(), Error> {
    client.create_native_config().map_err(|error| Error::Configure(error.into()))?;
    Ok(())
}

fn check_name(setting: &'static str, name: &str) -> Result<(), Error> {
    let reason = match name.chars().next() {
        None => "it is empty",
        Some('^') if setting == "topic" => "patterns are not supported, name one topic",
        Some(_) if name.contains('\0') => "it has a null character",
        Some(_) => return Ok(()),
    };
    Err(Error::Setting { setting, reason: reason.to_owned() })
}

fn millis(options: &Options, option: &'static str, default: u64) -> Result<Duration, Error> {
    let Some(value) = options.get(option) else { return Ok(Duration::from_millis(default)) };
    value.parse().map(Duration::from_millis).map_err(|_| {
        let reason = format!("{value:?} is not a number of milliseconds");
        Error::Setting { setting: option, reason }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SinkConfig, SourceConfig};

    fn source() -> SourceConfig {
        SourceConfig::new("localhost:9092", "requests", "sentiment")
    }

    #[test]
    fn a_librdkafka_option_that_forebay_sets_itself_is_rejected() {
        let mut config = source();
        config.options.insert("group.id".into(), "other".into());
        let error = config.client().unwrap_err().to_string();
        assert_eq!(error, "the librdkafka option \"group.id\" cannot be set here: use `group`");

        let mut config = SinkConfig::new("localhost:9092", "replies");
        config.options.insert("acks".into(), "1".into());
        assert!(config.client().unwrap_err().to_string().contains("all replicas"));
    }

    #[test]
    fn other_options_replace_the_defaults() {
        let mut config = source();
        config.options.insert("auto.offset.reset".into(), "latest".into());
        let client = config.client().unwrap();
        assert_eq!(client.get("auto.offset.reset"), Some("latest"));
        assert_eq!(client.get("enable.auto.commit"), Some("false"));
    }

    #[test]
    fn drain_timeout_must_be_less_than_half_of_the_session_timeout() {
        let mut config = source();
        config.options.insert("session.timeout.ms".into(), "6000".into());
        let error = config.client().unwrap_err().to_string();
        assert!(error.starts_with("invalid drain_timeout: 10s is not less than 3s"), "{error}");
        config.drain_timeout = Duration::from_secs(2);
        assert!(config.client().is_ok());
    }

    #[test]
    fn names_that_cannot_work_are_rejected() {
        let config = SourceConfig::new("localhost:9092", "^requests.*", "sentiment");
        assert!(config.client().unwrap_err().to_string().contains("patterns"));
        assert!(SinkConfig::new(" ", "replies").client().is_err());
    }
}

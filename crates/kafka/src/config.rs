//! Settings of sources and sinks. All but brokers, topics and groups have defaults.

mod brokers;
mod defaults;
mod group_options;
mod sasl;
#[cfg(test)]
mod tests;
mod trial;

use std::num::NonZeroUsize;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::types::RDKafkaType;

use self::defaults::{SINK_DEFAULTS, SINK_RESERVED, SOURCE_DEFAULTS, SOURCE_RESERVED, client};
use self::group_options::GroupOptions;
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
    /// Time after which the source ends with [`Error::Stuck`](crate::Error::Stuck) if its oldest
    /// record without an answer is still the same. With exactly-once delivery, also the time after
    /// which it ends if no transaction has succeeded since one failed. `None`: never.
    pub stuck_timeout: Option<Duration>,
    /// Interval between commits of offsets. With exactly-once delivery, the interval of the
    /// transactions counts instead.
    pub commit_interval: Duration,
    /// Maximum time that a rebalance waits for records in flight before it hands their partitions
    /// over. Must be less than half of `max.poll.interval.ms`. `None` is ten seconds, or a quarter
    /// of `max.poll.interval.ms` if that is less.
    pub drain_timeout: Option<Duration>,
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
    /// of committed records, and how long a commit may take. Must be less than
    /// `session.timeout.ms`. `None` is ten seconds, or `session.timeout.ms` if that is less.
    pub timeout: Option<Duration>,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self { id: None, commit_interval: Duration::from_millis(100), timeout: None }
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
            stuck_timeout: None,
            commit_interval: Duration::from_secs(1),
            drain_timeout: None,
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
        trial::create(&self.client()?, RDKafkaType::RD_KAFKA_CONSUMER)
    }

    /// Returns the settings of librdkafka's consumer.
    ///
    /// # Errors
    ///
    /// Returns an error that names the invalid setting and says what would be valid.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        check_name("topic", &self.topic)?;
        check_name("group", &self.group)?;
        self.drain_timeout()?;
        self.check_transactions()?;
        if self.max_in_flight.get() > MAX_IN_FLIGHT_LIMIT {
            let reason =
                format!("{} is more than {MAX_IN_FLIGHT_LIMIT}; lower it", self.max_in_flight);
            return Err(Error::Setting { setting: "max_in_flight", reason });
        }
        let mut client = client(&self.brokers, &self.options, SOURCE_DEFAULTS, SOURCE_RESERVED)?;
        client.set("group.id", &self.group);
        GroupOptions::of(&self.options)?.complete(&mut client);
        Ok(client)
    }

    /// Returns the drain timeout, which follows the options if it is not set.
    ///
    /// # Errors
    ///
    /// Returns an error if an option that it depends on is invalid, or if it is too long.
    pub fn drain_timeout(&self) -> Result<Duration, Error> {
        GroupOptions::of(&self.options)?.drain_timeout(self.drain_timeout)
    }

    /// Returns the timeout of transactions, which follows the options if it is not set.
    pub(crate) fn transaction_timeout(
        &self,
        settings: &TransactionSettings,
    ) -> Result<Duration, Error> {
        GroupOptions::of(&self.options)?.transaction_timeout(settings.timeout)
    }

    /// Checks that a transaction is committed well before its timeout.
    fn check_transactions(&self) -> Result<(), Error> {
        let Delivery::ExactlyOnce(settings) = &self.delivery else { return Ok(()) };
        let TransactionSettings { id, commit_interval, .. } = settings;
        if id.as_ref().is_some_and(|id| id.trim().is_empty()) {
            let reason = "it is empty".to_owned();
            return Err(Error::Setting { setting: "transactions.id", reason });
        }
        let timeout = self.transaction_timeout(settings)?;
        if *commit_interval > timeout / 2 {
            let reason = format!(
                "{commit_interval:?} is more than half of the timeout, {timeout:?}; lower it"
            );
            return Err(Error::Setting { setting: "transactions.commit_interval", reason });
        }
        Ok(())
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
        trial::create(&self.client()?, RDKafkaType::RD_KAFKA_PRODUCER)
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

fn check_name(setting: &'static str, name: &str) -> Result<(), Error> {
    let reason = match name.chars().next() {
        None => "it is empty",
        Some('^') if setting == "topic" => "patterns are not supported, name one topic",
        Some(_) if name.contains('\0') => "it has a null character",
        Some(_) => return Ok(()),
    };
    Err(Error::Setting { setting, reason: reason.to_owned() })
}

//! The guarantees for answers: `delivery`, `order`, `[transactions]` and `[on_failure]`.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::{Count, Interval, OptionsTable};

/// `delivery = ".."`: the delivery guarantee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

/// `order = ".."`: the order of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Answers are sent in the order in which the steps finish them.
    #[default]
    None,
    /// Answers to requests with the same key are sent in the order of the requests.
    Key,
}

/// The table `[transactions]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransactionsTable {
    /// Kafka's `transactional.id`: different for each running instance, and the same after a
    /// restart.
    pub(crate) id: Option<String>,
    /// The longest time for which a transaction collects answers before it is committed.
    #[serde(default, with = "crate::file::duration::option")]
    pub(crate) commit_interval: Option<Duration>,
    /// The time after which the brokers abort an open transaction.
    #[serde(default, with = "crate::file::duration::option")]
    pub(crate) timeout: Option<Duration>,
}

/// The table `[on_failure]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnFailureTable {
    /// The handling of a request that failed and is not retried again.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// The retries of transient failures.
    pub(crate) retry: Option<RetryTable>,
    /// The circuit breaker.
    pub(crate) breaker: Option<BreakerTable>,
}

/// `policy = "reply"`, `policy = "stop"` or `policy = { dead_letter = { .. } }`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// Sends an error reply.
    #[default]
    Reply,
    /// Ends the pipeline.
    Stop,
    /// Writes the request to a topic for dead letters.
    DeadLetter(DeadLetterTable),
}

/// The topic for dead letters: requests that failed and are not retried again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterTable {
    /// The topic.
    pub(crate) topic: String,
    /// Bootstrap servers; by default those of the source.
    pub(crate) brokers: Option<String>,
    /// Whether the request gets an error reply too.
    #[serde(default)]
    pub(crate) reply: bool,
    /// The longest wait for the brokers to confirm a dead letter, including the Kafka client's
    /// retries of the write.
    #[serde(default, with = "crate::file::duration::option")]
    pub(crate) delivery_timeout: Option<Duration>,
    /// Settings of librdkafka.
    #[serde(default)]
    pub(crate) options: OptionsTable,
}

/// `retry = { attempts = 3, backoff = "200ms" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryTable {
    /// The total number of attempts, including the first.
    pub(crate) attempts: NonZeroU32,
    /// The pause before the second attempt. Each later pause is twice as long as the one before.
    pub(crate) backoff: Interval,
    /// The longest pause between two attempts.
    pub(crate) max_backoff: Option<Interval>,
}

/// `breaker = { ratio = 0.5, of = 100, run = 50 }`: the breaker trips, and ends the pipeline, when
/// too many requests fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerTable {
    /// The breaker trips when at least this share of the most recent requests has failed; `of` says
    /// how many of them count.
    #[serde(default = "default_ratio")]
    pub(crate) ratio: f64,
    /// How many of the most recent requests `ratio` is computed over.
    #[serde(default = "default_of")]
    pub(crate) of: Count,
    /// The breaker trips when this many consecutive requests have failed.
    pub(crate) run: Option<Count>,
}

fn default_ratio() -> f64 {
    0.5
}

const fn default_of() -> Count {
    Count::of(100)
}

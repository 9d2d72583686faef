//! What is promised about answers: `delivery`, `order`, `[transactions]` and `[on_failure]`.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::Deserialize;

use super::Interval;

/// `delivery = ".."`: what a crash may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

/// `order = ".."`: in which order answers leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// As the steps give them.
    #[default]
    None,
    /// Those of one key in the order of its requests.
    Key,
}

/// `[transactions]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransactionsTable {
    /// The `transactional.id`, another for each instance and the same after its restart.
    pub(crate) id: Option<String>,
    /// How long a transaction collects answers.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) commit_interval: Option<Duration>,
    /// How long the brokers let one be open.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) timeout: Option<Duration>,
}

/// `[on_failure]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnFailureTable {
    /// What becomes of a request that failed for good.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// How often a failure that may pass is tried again.
    pub(crate) retry: Option<RetryTable>,
    /// When so many failures are no accident.
    pub(crate) breaker: Option<BreakerTable>,
}

/// `policy = "reply"`, `policy = "stop"` or `policy = { dead_letter = { .. } }`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// Answer with the error.
    #[default]
    Reply,
    /// End the pipeline.
    Stop,
    /// Keep the request elsewhere.
    DeadLetter(DeadLetterTable),
}

/// Where requests go that could not be answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterTable {
    /// The topic.
    pub(crate) topic: String,
    /// Bootstrap servers; the source's where there are none.
    pub(crate) brokers: Option<String>,
    /// Whether there is an error reply too.
    #[serde(default)]
    pub(crate) reply: bool,
    /// Longest wait for the confirmation, retries included.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) delivery_timeout: Option<Duration>,
    /// librdkafka's own settings.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// `retry = { attempts = 3, backoff = "200ms" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryTable {
    /// How often it is tried in all.
    pub(crate) attempts: NonZeroU32,
    /// The pause before the second attempt; each one after that is twice as long.
    pub(crate) backoff: Interval,
    /// The longest pause.
    pub(crate) max_backoff: Option<Interval>,
}

/// `breaker = { ratio = 0.5, of = 100, run = 50 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerTable {
    /// The share of the last requests that are too many failures.
    #[serde(default = "half")]
    pub(crate) ratio: f64,
    /// How many requests are looked at for that.
    #[serde(default = "hundred")]
    pub(crate) of: NonZeroUsize,
    /// How many failures one after another are too many.
    pub(crate) run: Option<NonZeroUsize>,
}

fn half() -> f64 {
    0.5
}

fn hundred() -> NonZeroUsize {
    NonZeroUsize::new(100).expect("100 is not zero")
}

//! `rate_limit`: passes at most one value in each interval, on average.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::{Count, Interval};
use crate::json::Json;

/// `rate_limit = "50ms"` or `rate_limit = { interval = "50ms", burst = 10 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimit {
    /// The average time between two values.
    interval: Interval,
    /// The number of values that may leave at once after a pause.
    #[serde(default = "super::default_one")]
    burst: Count,
}

impl From<Interval> for RateLimit {
    fn from(interval: Interval) -> Self {
        Self { interval, burst: super::default_one() }
    }
}

impl OnValues for RateLimit {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.rate_limit(self.interval.0, self.burst.get())
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

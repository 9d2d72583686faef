//! `delay`: delays every value by a fixed time.

use std::time::Duration;

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::{Count, Interval};
use crate::json::Json;

/// `delay = "1s"` or `delay = { by = "1s", capacity = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delay {
    /// The delay.
    #[serde(with = "crate::file::duration")]
    by: Duration,
    /// The most values that are delayed at once.
    #[serde(default = "super::default_window")]
    capacity: Count,
}

impl From<Interval> for Delay {
    fn from(Interval(by): Interval) -> Self {
        Self { by, capacity: super::default_window() }
    }
}

impl OnValues for Delay {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.delay(self.by, self.capacity.get())
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

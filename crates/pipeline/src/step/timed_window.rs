//! `timed_window`: gathers the values that arrive within each interval.

use std::num::NonZeroUsize;

use forebay_stream::{Batches, Empty, Flow};
use serde::Deserialize;

use super::{Nature, Window};
use crate::file::{Count, Interval};
use crate::json::Json;

/// `timed_window = "1s"` or `timed_window = { interval = "5ms", max_size = 64 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimedWindow {
    /// The interval at which windows close.
    interval: Interval,
    /// The most values in one window.
    #[serde(default = "super::default_window")]
    max_size: Count,
    /// Whether an empty batch is emitted if no value has arrived.
    #[serde(default)]
    emit_empty: bool,
}

impl From<Interval> for TimedWindow {
    fn from(interval: Interval) -> Self {
        Self { interval, max_size: super::default_window(), emit_empty: false }
    }
}

impl Window for TimedWindow {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        let empty = if self.emit_empty { Empty::Emit } else { Empty::Skip };
        flow.timed_window_with(self.interval.0, self.max_size.get(), empty)
    }

    fn max_size(&self) -> NonZeroUsize {
        self.max_size.get()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

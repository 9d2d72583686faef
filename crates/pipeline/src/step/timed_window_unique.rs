//! `timed_window_unique`: gathers the values that arrive within each interval, one of each key.

use std::num::NonZeroUsize;

use forebay_stream::{Batches, Flow, Keep};
use serde::Deserialize;

use super::{Nature, Window};
use crate::file::{Count, Interval};
use crate::jq::Jq;
use crate::json::Json;

/// `timed_window_unique = { interval = "1s", key = ".user", keep = "last" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimedWindowUnique {
    /// The interval at which windows close.
    interval: Interval,
    /// The most values in one window.
    #[serde(default = "super::default_window")]
    max_size: Count,
    /// Computes a value's key, which occurs once in a window; by default the whole value is the
    /// key.
    key: Option<Jq>,
    /// The value that is kept if several have the same key.
    #[serde(default)]
    keep: WhichToKeep,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhichToKeep {
    /// The first value, at its position.
    #[default]
    First,
    /// The last value, at the end of the batch.
    Last,
}

impl From<WhichToKeep> for Keep {
    fn from(keep: WhichToKeep) -> Self {
        match keep {
            WhichToKeep::First => Self::First,
            WhichToKeep::Last => Self::Last,
        }
    }
}

impl Window for TimedWindowUnique {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        let key = super::key(self.key.clone());
        flow.try_timed_window_unique(self.interval.0, self.max_size.get(), key, self.keep.into())
    }

    fn max_size(&self) -> NonZeroUsize {
        self.max_size.get()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

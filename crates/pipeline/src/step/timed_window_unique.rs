//! `timed_window_unique`: what arrived within each interval, one value of each key.

use std::num::NonZeroUsize;

use forebay_stream::{Batches, Flow, Keep};
use serde::Deserialize;

use super::Window;
use crate::file::Interval;
use crate::jq::Jq;
use crate::json::Json;

/// `timed_window_unique = { interval = "1s", key = ".user", keep = "last" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimedWindowUnique {
    /// The beat on which windows close.
    interval: Interval,
    /// Most values in one window.
    #[serde(default = "super::default_window")]
    max_size: NonZeroUsize,
    /// What no two values of one window have in common; without it, the whole value.
    key: Option<Jq>,
    /// Which of the values with one key stays.
    #[serde(default)]
    keep: WhichToKeep,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhichToKeep {
    /// The first, in its place.
    #[default]
    First,
    /// The last, which moves to the end.
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
        flow.try_timed_window_unique(self.interval.0, self.max_size, key, self.keep.into())
    }

    fn max_size(&self) -> NonZeroUsize {
        self.max_size
    }

    fn keeps(&self) -> Option<usize> {
        Some(0)
    }
}

//! `slice`: passes values by their position.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::Count;
use crate::json::Json;

/// `slice = { start = 1, end = 10, step = 2 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    /// The position of the first value that passes, counted from 0.
    #[serde(default)]
    start: usize,
    /// The position before which the last value passes; without it there is no end.
    end: Option<usize>,
    /// The distance between two values that pass.
    #[serde(default = "super::default_one")]
    step: Count,
}

impl OnValues for Slice {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.slice(self.start, self.end, self.step.get())
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

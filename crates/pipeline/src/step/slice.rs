//! `slice`: some of the values, by their place.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::json::Json;

/// `slice = { start = 1, end = 10, step = 2 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    /// The first value that passes; the first of all is number 0.
    #[serde(default)]
    start: usize,
    /// The first value that is not read any more; without it there is no end.
    end: Option<usize>,
    /// Every how many values one passes.
    #[serde(default = "super::default_one")]
    step: NonZeroUsize,
}

impl OnValues for Slice {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.slice(self.start, self.end, self.step)
    }
}

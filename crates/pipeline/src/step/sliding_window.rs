//! `sliding_window`: gathers overlapping batches.

use std::num::NonZeroUsize;

use forebay_stream::{Batches, Flow, Partial};
use serde::Deserialize;

use super::{Nature, Window};
use crate::file::Count;
use crate::json::Json;

/// `sliding_window = 3` or `sliding_window = { size = 3, step = 1, partial = true }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlidingWindow {
    /// The number of values in a window.
    size: Count,
    /// The distance between the beginnings of consecutive windows, in values.
    #[serde(default = "super::default_one")]
    step: Count,
    /// Whether windows that are not full are emitted, at the beginning and at the end of the input.
    #[serde(default = "super::default_true")]
    partial: bool,
}

impl From<Count> for SlidingWindow {
    fn from(size: Count) -> Self {
        Self { size, step: super::default_one(), partial: true }
    }
}

impl Window for SlidingWindow {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        let partial = if self.partial { Partial::Emit } else { Partial::Drop };
        flow.sliding_window(self.size.get(), self.step.get(), partial)
    }

    fn max_size(&self) -> NonZeroUsize {
        self.size.get()
    }

    fn nature(&self) -> Nature {
        Nature { keeps: Some(self.size.get().get()), ..Nature::SEVERAL }
    }
}

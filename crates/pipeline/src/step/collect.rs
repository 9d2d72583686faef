//! `collect`: gathers values into a batch, which is emitted when another step emits a value as a
//! signal.

use std::time::Duration;

use forebay_stream::{Batches, Empty, Flow};
use serde::Deserialize;
use toml::Spanned;

use crate::file::Count;
use crate::json::Json;

/// `collect = { flush = "ticks", max_size = 1000 }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Collect {
    /// The step whose values are the signals. Without it the batch is emitted when it is full or
    /// the input ends.
    pub(crate) flush: Option<Spanned<String>>,
    /// The most values in one batch.
    #[serde(default = "super::default_window")]
    pub(crate) max_size: Count,
    /// Whether a signal emits an empty batch if no value has arrived since the last signal.
    #[serde(default)]
    emit_empty: bool,
    /// How long the step waits for a branch that is behind, if values and
    /// signals are branches of one flow.
    #[serde(default, with = "crate::file::duration::option")]
    wait: Option<Duration>,
}

impl Collect {
    pub(crate) fn apply(&self, flow: Flow<Json>, flush: Option<Flow<Json>>) -> Batches<Json> {
        match flush {
            Some(flush) => {
                let empty = if self.emit_empty { Empty::Emit } else { Empty::Skip };
                super::waiting(flow, self.wait).collect_until(flush, self.max_size.get(), empty)
            }
            None => flow.partition(self.max_size.get(), None),
        }
    }
}

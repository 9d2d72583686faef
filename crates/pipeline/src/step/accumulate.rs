//! `accumulate`: keeps a state, updates it with each value, and emits the new state.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::jq::JqStep;
use crate::json::Json;

/// `accumulate = { init = 0, step = ". + $item" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accumulate {
    /// The state before the first value.
    #[serde(default)]
    init: Json,
    /// Computes the next state from the state `.` and the value `$item`.
    step: JqStep,
}

impl OnValues for Accumulate {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let step = self.step.clone();
        flow.accumulate(self.init.clone(), move |state, item| step.call(state.clone(), item))
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

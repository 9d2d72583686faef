//! `scan`: keeps a state, and computes the next state and a result from each value.

use forebay_stream::{Failure, Flow};
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::codes;
use crate::jq::JqStep;
use crate::json::Json;

/// `scan = { init = 0, step = "[$item, $item - .]" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scan {
    /// The state before the first value.
    #[serde(default)]
    init: Json,
    /// Computes an array of the next state and the result, from the state `.` and the value
    /// `$item`.
    step: JqStep,
}

impl OnValues for Scan {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let step = self.step.clone();
        flow.scan(self.init.clone(), move |state, item| {
            let both = step.call(state.clone(), item)?.into_members();
            let [state, result] =
                both.ok().and_then(|both| both.try_into().ok()).ok_or_else(|| {
                    Failure::new(
                        codes::INVALID_STEP,
                        "`step` must give an array of two: the state and the result",
                    )
                })?;
            Ok((state, result))
        })
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

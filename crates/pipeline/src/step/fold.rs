//! `fold`: reduces each batch, or each array, to one value.

use forebay_stream::{Batches, Failure, Flow};
use serde::Deserialize;

use super::{Nature, OnBatches};
use crate::jq::JqStep;
use crate::json::Json;

/// `fold = { init = 0, step = ". + $item" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fold {
    /// The state before each batch's first value, and the result for an empty batch.
    #[serde(default)]
    init: Json,
    /// Computes the next state from the state `.` and the value `$item`.
    step: JqStep,
}

impl Fold {
    fn step(&self) -> impl FnMut(Json, Json) -> Result<Json, Failure> + Send + 'static {
        let step = self.step.clone();
        move |state, item| step.call(state, item)
    }
}

impl OnBatches for Fold {
    fn of_batches(&self, batches: Batches<Json>) -> Flow<Json> {
        batches.fold(self.init.clone(), self.step())
    }

    fn of_arrays(&self, flow: Flow<Json>) -> Flow<Json> {
        let init = self.init.clone();
        let mut step = self.step();
        flow.try_map(move |array| {
            array.into_members()?.into_iter().try_fold(init.clone(), &mut step)
        })
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

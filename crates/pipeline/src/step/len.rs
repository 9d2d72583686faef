//! `len`: counts the values of each batch, or of each array.

use forebay_stream::{Batches, Flow};
use serde::Deserialize;

use super::{Nature, OnBatches};
use crate::json::Json;

/// `len = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Len {}

impl OnBatches for Len {
    fn of_batches(&self, batches: Batches<Json>) -> Flow<Json> {
        batches.lengths().map(Json::from)
    }

    fn of_arrays(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.try_map(|array| Ok(array.into_members()?.len().into()))
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

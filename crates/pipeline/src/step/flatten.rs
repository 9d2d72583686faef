//! `flatten`: gives the members of each batch, or of each array, one by one.

use forebay_stream::{Batches, Flow};
use serde::Deserialize;

use super::{Nature, OnBatches};
use crate::json::Json;

/// `flatten = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flatten {}

impl OnBatches for Flatten {
    fn of_batches(&self, batches: Batches<Json>) -> Flow<Json> {
        batches.flatten()
    }

    fn of_arrays(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.try_map(Json::into_members).named("members").flatten()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

//! `detach`: settles each input as done and passes its value on, so that the source does not wait
//! for the steps after it.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::json::Json;

/// `detach = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Detach {}

impl OnValues for Detach {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.detach()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

//! `detach`: values whose source need not wait for them.

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::json::Json;

/// `detach = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Detach {}

impl OnValues for Detach {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.detach()
    }
}

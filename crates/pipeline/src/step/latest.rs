//! `latest`: the newest value only.

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::json::Json;

/// `latest = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {}

impl OnValues for Latest {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.latest()
    }
}

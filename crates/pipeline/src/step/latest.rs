//! `latest`: gives the newest value to a slow taker and skips older ones.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::json::Json;

/// `latest = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {}

impl OnValues for Latest {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.latest()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

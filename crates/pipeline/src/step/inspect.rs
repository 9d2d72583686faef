//! `inspect`: logs what passes.

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::jq::Jq;
use crate::json::Json;

/// `inspect = ".id"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inspect {
    /// What is logged of each value, at the level `info`.
    jq: Jq,
}

impl From<Jq> for Inspect {
    fn from(jq: Jq) -> Self {
        Self { jq }
    }
}

impl OnValues for Inspect {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let jq = self.jq.clone();
        flow.inspect(move |value| match jq.of(value) {
            Ok(shown) => tracing::info!(target: "forebay::inspect", "{shown}"),
            // It only looks: what it cannot see passes all the same.
            Err(failure) => tracing::warn!(target: "forebay::inspect", "{failure}"),
        })
    }
}

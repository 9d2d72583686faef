//! `inspect`: logs the values that pass.

use std::sync::Arc;

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::jq::Jq;
use crate::json::Json;

/// `inspect = ".id"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inspect {
    /// The text logged for each value, at the level `info`.
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
        let step = flow.next_name().map_or_else(|| "inspect".into(), Arc::clone);
        flow.inspect(move |value| match jq.of(value) {
            Ok(shown) => tracing::info!(target: "forebay::inspect", step = &*step, "{shown}"),
            // `inspect` never fails an event: a value that cannot be shown passes too.
            Err(failure) => {
                tracing::warn!(target: "forebay::inspect", step = &*step, "{failure}");
            }
        })
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

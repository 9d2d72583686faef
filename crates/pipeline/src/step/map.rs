//! `map`: replaces each value by the result of an expression.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::jq::Jq;
use crate::json::Json;

/// `map = ".text"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Map {
    /// Computes the new value.
    jq: Jq,
}

impl From<Jq> for Map {
    fn from(jq: Jq) -> Self {
        Self { jq }
    }
}

impl OnValues for Map {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let jq = self.jq.clone();
        flow.try_map(move |value| jq.call(value, []))
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

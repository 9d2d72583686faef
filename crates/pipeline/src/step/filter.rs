//! `filter` passes the values for which an expression is true; `remove` passes the others.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::jq::Jq;
use crate::json::Json;

/// `filter = ".score > 0.5"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// True for a value that passes.
    jq: Jq,
}

/// `remove = ".score > 0.5"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    /// True for a value that is discarded.
    jq: Jq,
}

impl From<Jq> for Filter {
    fn from(jq: Jq) -> Self {
        Self { jq }
    }
}

impl From<Jq> for Remove {
    fn from(jq: Jq) -> Self {
        Self { jq }
    }
}

impl OnValues for Filter {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let jq = self.jq.clone();
        flow.try_filter(move |value| jq.holds(value))
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

impl OnValues for Remove {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let jq = self.jq.clone();
        flow.try_filter(move |value| Ok(!jq.holds(value)?))
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

//! `zip_latest`: joins every value of one flow with the newest values of other flows, as arrays.

use std::time::Duration;

use forebay_stream::{EmitOn, Flow};
use serde::Deserialize;

use super::{Join, NamedFlow, Nature};
use crate::json::Json;

/// `from = ["requests", "settings"]` with `zip_latest = {}`: joins every value of the first with
/// the newest values of the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZipLatest {
    /// How long the step waits for a branch that is behind, if the flows are branches of one flow.
    #[serde(default, with = "crate::file::duration::option")]
    wait: Option<Duration>,
}

impl Join for ZipLatest {
    fn apply(&self, first: NamedFlow, rest: Vec<NamedFlow>, name: &str) -> Flow<Json> {
        let combine = |left: Flow<Json>, right| {
            super::waiting(left, self.wait).combine_latest(right, EmitOn::Any)
        };
        let mut others = rest.into_iter().map(|next| next.flow);
        let Some(second) = others.next() else {
            unreachable!("a join takes at least `min_inputs` flows");
        };
        let others = super::fold_pairs(second, others, combine);
        let pairs = super::waiting(first.flow.named(name), self.wait).zip_latest(others);
        pairs
            .named("array")
            .map(|(value, others)| Json::array([value].into_iter().chain(others.members())))
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

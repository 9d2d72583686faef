//! `zip_latest`: joins every value of one flow with the newest values of other flows, as arrays.

use forebay_stream::{EmitOn, Flow};
use serde::Deserialize;

use super::Join;
use crate::json::Json;

/// `from = ["requests", "settings"]` with `zip_latest = {}`: joins every value of the first with
/// the newest values of the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZipLatest {}

impl Join for ZipLatest {
    fn apply(
        &self,
        mut flows: Vec<Flow<Json>>,
        name: &str,
        _from: &[String],
    ) -> Option<Flow<Json>> {
        let others = flows.split_off(1);
        let every = flows.pop()?;
        let combine = |left: Flow<Json>, right| left.combine_latest(right, EmitOn::Any);
        let others = super::fold_pairs(others, combine)?;
        let pairs = every.named(name).zip_latest(others);
        Some(
            pairs
                .named("array")
                .map(|(value, others)| Json::array([value].into_iter().chain(others.members()))),
        )
    }
}

//! `union`: merges several flows into one.

use forebay_stream::Flow;
use serde::Deserialize;

use super::Join;
use crate::json::Json;

/// `from = ["a", "b"]` with `union = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Union {}

impl Join for Union {
    fn apply(&self, flows: Vec<Flow<Json>>, name: &str, _from: &[String]) -> Option<Flow<Json>> {
        flows.into_iter().reduce(|all, next| all.named(name).union(next))
    }
}

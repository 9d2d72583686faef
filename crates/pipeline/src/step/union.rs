//! `union`: merges several flows into one.

use std::time::Duration;

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Join, NamedFlow, Nature};
use crate::json::Json;

/// `from = ["a", "b"]` with `union = {}` or `union = { wait = "1s" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Union {
    /// How long the step waits for a branch that is behind, if the flows are branches of one flow.
    #[serde(default, with = "crate::file::duration::option")]
    wait: Option<Duration>,
}

impl Join for Union {
    fn apply(&self, first: NamedFlow, rest: Vec<NamedFlow>, name: &str) -> Flow<Json> {
        rest.into_iter().fold(first.flow, |all, next| {
            super::waiting(all.named(name), self.wait).union(next.flow)
        })
    }

    fn merges(&self) -> bool {
        true
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

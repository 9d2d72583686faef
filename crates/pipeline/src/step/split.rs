//! `split`: each value goes one of two ways.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use crate::jq::Jq;
use crate::json::Json;

/// `split = ".score > 0.5"`: the ways of a step named `route` are `route.true` and `route.false`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    /// Which way a value goes.
    jq: Jq,
    /// How many values may wait in either way.
    #[serde(default = "super::default_queue")]
    capacity: NonZeroUsize,
}

impl From<Jq> for Split {
    fn from(jq: Jq) -> Self {
        Self { jq, capacity: super::default_queue() }
    }
}

impl Split {
    /// The flow of the values for which the expression is true, and that of the others.
    pub(crate) fn apply(&self, flow: Flow<Json>) -> (Flow<Json>, Flow<Json>) {
        let jq = self.jq.clone();
        flow.try_split(move |value| jq.holds(value), self.capacity)
    }
}

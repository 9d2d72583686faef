//! `split`: passes each value on to one of two outputs.

use forebay_stream::Flow;
use serde::Deserialize;

use crate::file::Count;
use crate::jq::Jq;
use crate::json::Json;

/// `split = ".score > 0.5"`: the outputs of a step named `route` are `route.true` and
/// `route.false`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    /// Decides the output of a value.
    jq: Jq,
    /// The most values that may wait at each output.
    #[serde(default = "super::default_queue")]
    capacity: Count,
}

impl From<Jq> for Split {
    fn from(jq: Jq) -> Self {
        Self { jq, capacity: super::default_queue() }
    }
}

impl Split {
    /// Returns the flow of the values for which the expression is true, and the flow of the others.
    pub(crate) fn apply(&self, flow: Flow<Json>) -> (Flow<Json>, Flow<Json>) {
        let jq = self.jq.clone();
        flow.try_split(move |value| jq.holds(value), self.capacity.get())
    }
}

//! `unique`: repeats are left out.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::jq::Jq;
use crate::json::Json;

/// `unique = { key = ".id", capacity = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unique {
    /// What tells a repeat; without it, the whole value.
    key: Option<Jq>,
    /// How many keys are remembered: when there are more, the one that has not come for longest is forgotten.
    #[serde(default = "super::default_memory")]
    capacity: NonZeroUsize,
}

impl OnValues for Unique {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.try_unique(super::key(self.key.clone()), self.capacity)
    }
}

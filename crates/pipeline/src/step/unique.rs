//! `unique`: discards values whose key has come before.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::Count;
use crate::jq::Jq;
use crate::json::Json;

/// `unique = { key = ".id", capacity = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unique {
    /// The key; the whole value by default.
    key: Option<Jq>,
    /// The number of keys that are remembered. Beyond it, the least recently seen key is forgotten.
    #[serde(default = "super::default_memory")]
    capacity: Count,
}

impl OnValues for Unique {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.try_unique(super::key(self.key.clone()), self.capacity.get())
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

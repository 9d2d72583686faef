//! `unique`: discards values whose key has come before.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
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
    capacity: NonZeroUsize,
}

impl OnValues for Unique {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.try_unique(super::key(self.key.clone()), self.capacity)
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

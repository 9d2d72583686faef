//! `partition_unique`: gathers batches of a given size in which each key occurs once.

use std::num::NonZeroUsize;

use forebay_stream::{Batches, Flow};
use serde::Deserialize;

use super::timed_window_unique::WhichToKeep;
use super::{Nature, Window};
use crate::file::Count;
use crate::jq::Jq;
use crate::json::Json;

/// `partition_unique = 3` or `partition_unique = { size = 3, key = ".user", keep = "last" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionUnique {
    /// The number of values in a batch.
    size: Count,
    /// Computes a value's key, which occurs once in a batch; by default the whole value is the key.
    key: Option<Jq>,
    /// The value that is kept if several have the same key.
    #[serde(default)]
    keep: WhichToKeep,
}

impl From<Count> for PartitionUnique {
    fn from(size: Count) -> Self {
        Self { size, key: None, keep: WhichToKeep::default() }
    }
}

impl Window for PartitionUnique {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        flow.try_partition_unique(self.size.get(), super::key(self.key.clone()), self.keep.into())
    }

    fn max_size(&self) -> NonZeroUsize {
        self.size.get()
    }

    fn nature(&self) -> Nature {
        Nature { keeps: Some(self.size.get().get()), ..Nature::EACH }
    }
}

//! `partition`: gathers batches of a given size, optionally by key.

use std::num::NonZeroUsize;
use std::time::Duration;

use forebay_stream::{Batches, Flow};
use serde::Deserialize;

use super::{Nature, Window};
use crate::file::Count;
use crate::jq::Jq;
use crate::json::Json;

/// `partition = 3` or `partition = { size = 3, timeout = "100ms", key = ".user" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partition {
    /// The number of values in a batch.
    size: Count,
    /// The longest time that a batch's first value waits for the batch to be full. Without it, a
    /// batch waits until it is full.
    #[serde(default, with = "crate::file::duration::option")]
    timeout: Option<Duration>,
    /// Computes a value's key. All values of a batch have the same key. Without it, all values are
    /// gathered together.
    key: Option<Jq>,
}

impl From<Count> for Partition {
    fn from(size: Count) -> Self {
        Self { size, timeout: None, key: None }
    }
}

impl Window for Partition {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        match &self.key {
            None => flow.partition(self.size.get(), self.timeout),
            Some(key) => {
                let key = key.clone();
                flow.try_partition_by(self.size.get(), self.timeout, move |value| key.of(value))
            }
        }
    }

    fn max_size(&self) -> NonZeroUsize {
        self.size.get()
    }

    fn nature(&self) -> Nature {
        let keeps = match (self.timeout, &self.key) {
            (Some(_), _) => Some(0),
            (None, None) => Some(self.size.get().get()),
            (None, Some(_)) => None,
        };
        Nature { keeps, ..Nature::EACH }
    }
}

//! `[[step]]`: one operator each.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

/// One operator, keyed by its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum StepTable {
    /// Batches what arrives within each interval.
    TimedWindow(TimedWindow),
    /// Batches by number.
    Partition(Partition),
    /// Turns batches back into single elements.
    Flatten(Flatten),
    /// Runs each batch through a model.
    MapBatch(MapBatch),
}

/// `timed_window = { interval = "5ms", max_size = 64 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimedWindow {
    /// The beat on which windows close.
    #[serde(with = "humantime_serde")]
    pub(crate) interval: Duration,
    /// Most elements in one window.
    pub(crate) max_size: NonZeroUsize,
}

/// `partition = { size = 64, timeout = "10ms" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partition {
    /// Elements in one batch.
    pub(crate) size: NonZeroUsize,
    /// Longest wait of a batch's first element; without it a batch waits until it is full.
    #[serde(default, with = "humantime_serde::option")]
    pub(crate) timeout: Option<Duration>,
}

/// `flatten = {}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flatten {}

/// `map_batch = { model = "sentiment" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapBatch {
    /// A name under `[model]`.
    pub(crate) model: Spanned<String>,
}

//! `frequencies`: how often each value has come.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::json::Json;

/// `frequencies = { capacity = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frequencies {
    /// Most distinct values.
    #[serde(default = "super::many")]
    capacity: NonZeroUsize,
}

impl OnValues for Frequencies {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.frequencies(self.capacity).map(|counts| {
            // Sorted, so that equal counts are equal lines.
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_unstable();
            let key = |value: Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Json::object(counts.into_iter().map(|(value, count)| (key(value), Json::from(count))))
        })
    }
}

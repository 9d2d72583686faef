//! `frequencies`: counts how often each value has come.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::Count;
use crate::json::Json;

/// `frequencies = { capacity = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frequencies {
    /// The most distinct values that are counted.
    #[serde(default = "super::default_memory")]
    capacity: Count,
}

impl OnValues for Frequencies {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.frequencies(self.capacity.get()).map(|counts| {
            // Sorted, so that equal counts give equal JSON texts.
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_unstable();
            // A string is its own key, unless it is also the JSON text of another value: then it is
            // quoted, so that keys stay distinct.
            let key = |value: Json| match value.as_str() {
                Some(text) if Json::parse(text.as_bytes()).is_err() => text.to_owned(),
                _ => value.to_string(),
            };
            Json::object(counts.into_iter().map(|(value, count)| (key(value), Json::from(count))))
        })
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

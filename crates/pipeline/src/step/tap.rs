//! `tap`: keeps the last values that passed, for people to look at.

use std::num::NonZeroUsize;

use forebay_stream::Flow;
use serde::Deserialize;

use super::OnValues;
use crate::json::Json;

/// `tap = 100`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tap {
    /// How many values are kept.
    last: NonZeroUsize,
}

impl From<NonZeroUsize> for Tap {
    fn from(last: NonZeroUsize) -> Self {
        Self { last }
    }
}

impl OnValues for Tap {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.tap(self.last).0
    }
}

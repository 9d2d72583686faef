//! `tap`: keeps the last values that passed, for display.

use serde::Deserialize;

use crate::file::Count;

/// `tap = 100`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tap {
    /// The number of values that are kept.
    pub(crate) last: Count,
}

impl From<Count> for Tap {
    fn from(last: Count) -> Self {
        Self { last }
    }
}

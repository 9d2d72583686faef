//! `tap`: keeps the last values that passed, for display.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `tap = 100`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tap {
    /// The number of values that are kept.
    pub(crate) last: NonZeroUsize,
}

impl From<NonZeroUsize> for Tap {
    fn from(last: NonZeroUsize) -> Self {
        Self { last }
    }
}

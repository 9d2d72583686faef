//! `feedback`: values that come out again at a step before.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `feedback = { capacity = 64 }`: what flows in comes out at the `union` that names this step in its `from`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feedback {
    /// Most values that are on their way around at once.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: NonZeroUsize,
}

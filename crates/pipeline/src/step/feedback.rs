//! `feedback`: sends values back to an earlier step.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `feedback = { capacity = 64 }`: its input flows into the `union` that names this step in its
/// `from`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feedback {
    /// The most values inside the loop.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: NonZeroUsize,
}

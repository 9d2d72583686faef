//! `feedback`: sends values back to an earlier step.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::file::Count;

/// `feedback = { capacity = 64, max_turns = 10000 }`: its input flows into the `union` that names this step in its
/// `from`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feedback {
    /// The most values inside the loop.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: Count,
    /// How often a value may go round the loop.
    #[serde(default = "default_turns")]
    pub(crate) max_turns: NonZeroU32,
}

const fn default_turns() -> NonZeroU32 {
    NonZeroU32::new(10_000).expect("10,000 is not zero")
}

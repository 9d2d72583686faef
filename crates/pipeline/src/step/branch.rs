//! `branch`: passes every value on to several steps.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `branch = { capacity = 16 }`: each step that names this one in `from` gets every value.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branch {
    /// The most values that one taker may be behind the others.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: NonZeroUsize,
}

/// Applies to every step that several others name in `from`.
impl Default for Branch {
    fn default() -> Self {
        Self { capacity: super::default_queue() }
    }
}

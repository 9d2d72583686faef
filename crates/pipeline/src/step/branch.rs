//! `branch`: every value goes every way.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `branch = { capacity = 16 }`: each step that names this one in `from` gets every value.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branch {
    /// How many values one way may be behind the others.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: NonZeroUsize,
}

/// How any step that several others name shares its values out.
impl Default for Branch {
    fn default() -> Self {
        Self { capacity: super::default_queue() }
    }
}

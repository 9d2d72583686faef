//! `branch`: passes every value on to several steps.

use serde::Deserialize;

use crate::file::Count;

/// `branch = { capacity = 16 }`: each step that names this one in `from` gets every value.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branch {
    /// The most values by which one of these steps may be behind the others.
    #[serde(default = "super::default_queue")]
    pub(crate) capacity: Count,
}

/// The default applies to any other step that several steps name in `from`.
impl Default for Branch {
    fn default() -> Self {
        Self { capacity: super::default_queue() }
    }
}

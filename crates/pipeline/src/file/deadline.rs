//! What `[deadline]` may hold.

use serde::Deserialize;
use toml::Spanned;

/// `[deadline]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadlineTable {
    /// The header with a point in time, in milliseconds since 1970.
    pub(crate) header: Option<Spanned<String>>,
    /// The header with a time after the request's timestamp, in milliseconds.
    pub(crate) timeout_header: Option<Spanned<String>>,
}

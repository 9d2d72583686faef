//! The table `[deadline]`.

use serde::Deserialize;
use toml::Spanned;

/// The table `[deadline]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadlineTable {
    /// The name of the header that holds the deadline, in milliseconds since 1970.
    pub(crate) header: Option<Spanned<String>>,
    /// The name of the header that holds the time from the request's timestamp to its deadline, in
    /// milliseconds.
    pub(crate) timeout_header: Option<Spanned<String>>,
}

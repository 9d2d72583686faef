//! `Predicate`: a jq expression that is true or false for a value.

use std::str::FromStr;

use forebay_stream::Failure;

use crate::jq::Jq;
use crate::json::Json;

/// A compiled jq expression that is true or false for a value. It is parsed from its text.
///
/// ```
/// use forebay_pipeline::{Json, Predicate};
///
/// let is_large: Predicate = ".n > 1".parse().unwrap();
/// assert!(is_large.holds(&Json::parse(b"{\"n\": 2}").unwrap()).unwrap());
/// ```
#[derive(Clone, Debug)]
pub struct Predicate(Jq);

impl Predicate {
    /// Returns whether the expression's result for `value` is anything but `false` and `null`.
    ///
    /// # Errors
    ///
    /// Fails with `jq_error` if the expression fails, and with `jq_results` if it does not give
    /// exactly one result.
    pub fn holds(&self, value: &Json) -> Result<bool, Failure> {
        self.0.holds(value)
    }
}

impl FromStr for Predicate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let jq = Jq::compile(text, &[]);
        jq.map(Self).map_err(|error| format!("not a jq expression: {error}"))
    }
}

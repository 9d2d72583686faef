//! `Failure`: why one event could not be processed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The reason why one event could not be processed. A failed event leaves the flow, and the flow
/// goes on with other events.
///
/// `code` is for programs and stays the same from release to release (`invalid_json`,
/// `text_too_long`); `message` is for people; `stage` is the name of the operator at which the
/// event left the flow. That operator sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: Cow<'static, str>,
    message: String,
    stage: Option<Arc<str>>,
    transient: bool,
    attempts: u32,
}

impl Failure {
    /// Creates a failure with a `message` that says what to do, and with a stable `code`: a
    /// [`Code`](crate::Code), or a text in `snake_case`.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self {
            code: code.into(),
            message: message.to_string(),
            stage: None,
            transient: false,
            attempts: 1,
        }
    }

    /// Marks the failure as transient: the same work may succeed if it is tried again, as
    /// [`Flow::retry`](crate::Flow::retry) does.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Sets the stage, unless it is set already: the first operator that reports a failure is the
    /// one at which the event left.
    #[must_use]
    pub fn at(mut self, stage: impl Into<Arc<str>>) -> Self {
        if self.stage.is_none() {
            self.stage = Some(stage.into());
        }
        self
    }

    /// Sets the number of attempts.
    #[must_use]
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Whether the same work may succeed if it is tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Returns the number of times that the work was tried: 1, unless
    /// [`Flow::retry`](crate::Flow::retry) tried it again.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the stable code, such as `invalid_json`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the operator at which the event left the flow; empty if no operator has set it.
    #[must_use]
    pub fn stage(&self) -> &str {
        self.stage.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match self.stage() {
            "" => Ok(()),
            stage => write!(f, " (at {stage})"),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns a function that cannot fail into one that returns a `Result`.
pub(crate) fn infallible<T, K>(
    mut f: impl FnMut(&T) -> K + Send + 'static,
) -> impl FnMut(&T) -> Result<K, Failure> + Send + 'static {
    move |value| Ok(f(value))
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn the_stage_that_is_set_first_is_kept() {
        let failure = Failure::new("invalid_json", "line 1").at("decode").at("sink");
        assert_eq!(failure.to_string(), "invalid_json: line 1 (at decode)");
    }

    #[test]
    fn a_failure_is_not_transient_and_has_one_attempt_by_default() {
        let failure = Failure::new("overloaded", "try later");
        assert_eq!((failure.is_transient(), failure.attempts()), (false, 1));
        let failure = failure.transient().at("model").after(3);
        assert_eq!((failure.is_transient(), failure.attempts()), (true, 3));
    }
}

//! `Code`: a failure code and its meaning.

use std::borrow::Cow;

/// A failure code: the stable name that [`Failure::code`](crate::Failure::code) returns, and a
/// sentence for users. Forebay's own codes are constants in the modules `codes` of its crates, and
/// docs/errors.md lists them.
///
/// [`Failure::new`](crate::Failure::new) takes a code, or any other text:
///
/// ```
/// use forebay_stream::{Code, Failure};
///
/// const NOT_A_NUMBER: Code = Code::new("not_a_number", "The line is not a number; correct it.");
///
/// let failure = Failure::new(NOT_A_NUMBER, "line 3 is \"x\"");
/// assert_eq!(failure.code(), NOT_A_NUMBER.name());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    name: &'static str,
    meaning: &'static str,
    transient: bool,
}

impl Code {
    /// Creates a code from a name in `snake_case` and a `meaning`: one sentence that says what
    /// happened and what to do.
    #[must_use]
    pub const fn new(name: &'static str, meaning: &'static str) -> Self {
        Self { name, meaning, transient: false }
    }

    /// Notes that failures with this code can be transient. This is for the table in
    /// docs/errors.md only; a failure is transient if
    /// [`Failure::transient`](crate::Failure::transient) marks it.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Returns the name, such as `buffer_full`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns a sentence that says what happened and what to do.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.meaning
    }

    /// Whether failures with this code can be transient.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.transient
    }
}

impl From<Code> for Cow<'static, str> {
    fn from(code: Code) -> Self {
        Cow::Borrowed(code.name)
    }
}

//! Printing to standard output, which its reader may close.

use std::fmt;
use std::io::{self, Write as _};

/// Prints one line.
///
/// # Errors
///
/// If standard output is closed, as in `forebay demo | head`. This error ends the program silently.
pub(crate) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Returns whether the error is a closed standard output.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|error| error.downcast_ref().is_some_and(closed))
}

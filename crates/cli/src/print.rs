//! Standard output, whose reader may go away.

use std::fmt;
use std::io::{self, Write as _};

/// Prints one line. A reader that has gone (`forebay demo | head`) is an error, which ends the program in silence.
pub(crate) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Whether the error is that nobody reads standard output any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|error| error.downcast_ref().is_some_and(closed))
}

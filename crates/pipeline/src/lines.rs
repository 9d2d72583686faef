//! JSON lines as a source and a sink: standard input and output, files.

mod sink;
mod source;

pub(crate) use sink::{Confirm, LinesSink};
pub(crate) use source::{AtEnd, lines};

//! JSON lines as a source and a sink: standard input, standard output and files.

mod follow;
mod sink;
mod source;

pub(crate) use follow::Followed;
pub(crate) use sink::{Confirm, LinesSink};
pub(crate) use source::{READ_AHEAD, start};

//! The operators, one file each.

pub(crate) mod catch;
mod filter;
mod flatten;
mod map;
pub(crate) mod map_batch;
mod partition;
mod rejoin;
mod timed_window;
mod try_map;
mod union;

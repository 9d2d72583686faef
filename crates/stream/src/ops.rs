//! The operators, one file each.

mod accumulate;
mod branch;
pub(crate) mod buffer;
pub(crate) mod catch;
pub(crate) mod collect_until;
pub(crate) mod combine_latest;
mod delay;
mod detach;
mod filter;
mod flatten;
mod frequencies;
mod inspect;
mod map;
mod map_async;
pub(crate) mod map_batch;
mod partition;
pub(crate) mod partition_unique;
mod rate_limit;
mod rejoin;
mod slice;
pub(crate) mod sliding_window;
mod timed_window;
mod try_map;
mod union;
mod unique;
mod zip;
mod zip_latest;

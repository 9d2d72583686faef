//! The operators, one file each.

pub(crate) mod map_batch;

//! The graphics adapters of this machine as devices: which there are, which one the user's choice
//! means, and opening it.

mod adapters;
mod list;
mod open;
mod pick;

pub(super) use list::devices;
pub(super) use pick::select;

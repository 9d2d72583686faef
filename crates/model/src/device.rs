//! Choosing the device that a model computes on: the user's choice, the machine's adapters, and the
//! Burn device selected from both.

mod adapters;
mod available;
mod choice;
mod open;
mod select;

pub use available::{AvailableDevice, available_devices};
pub use choice::{DeviceChoice, InvalidDevice};
pub use select::SelectedDevice;

//! Selecting the device that a model computes on: from the user's choice and the machine's graphics
//! adapters to a device of Burn.

mod adapters;
mod available;
mod choice;
mod open;
mod select;

pub use available::{AvailableDevice, available_devices};
pub use choice::{DeviceChoice, InvalidDevice};
pub use select::SelectedDevice;

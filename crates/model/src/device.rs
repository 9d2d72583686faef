//! Where a model computes: the choice a user makes, the adapters there are, and the Burn device that comes of both.

mod adapters;
mod available;
mod choice;
mod open;
mod select;

pub use available::{AvailableDevice, available_devices};
pub use choice::{DeviceChoice, InvalidDevice};
pub use select::SelectedDevice;

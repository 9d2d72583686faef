//! Selecting the device that a model computes on: from the user's choice and the machine's graphics
//! adapters to a device of Burn.

mod available;
mod choice;
#[cfg(feature = "gpu")]
mod gpu;
// Tests of every build include it.
#[cfg(any(test, not(feature = "gpu")))]
mod no_gpu;
mod selected;

pub use available::{AvailableDevice, available_devices};
pub use choice::{DeviceChoice, InvalidDevice};
pub use selected::SelectedDevice;

#[cfg(not(feature = "gpu"))]
use no_gpu as gpu;

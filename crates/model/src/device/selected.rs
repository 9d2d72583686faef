//! `SelectedDevice`: an opened device of Burn, with the reason for its selection in words.

use burn::tensor::Device;

use super::{DeviceChoice, gpu};
use crate::Error;

/// An opened device and the reason why it was selected.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    pub(super) device: Device,
    pub(super) is_gpu: bool,
    pub(super) is_software: bool,
    pub(super) largest_buffer: u64,
    pub(super) reason: String,
}

impl DeviceChoice {
    /// Finds and opens the chosen device.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] if this machine has no such device, or this build cannot use it;
    /// `Error::OpenDevice` if its driver fails to open it.
    pub fn select(self) -> Result<SelectedDevice, Error> {
        gpu::select(self)
    }
}

impl SelectedDevice {
    pub(super) fn cpu(reason: String) -> Self {
        Self {
            device: Device::flex(),
            is_gpu: false,
            is_software: false,
            largest_buffer: u64::MAX,
            reason,
        }
    }

    /// Returns the Burn device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns whether the device is a GPU. A GPU's kernels are compiled for every new shape.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.is_gpu
    }

    /// Returns whether the device is a GPU that is emulated by the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.is_software
    }

    /// Returns the most bytes that one tensor may have.
    #[must_use]
    pub fn largest_buffer(&self) -> u64 {
        self.largest_buffer
    }

    /// Returns the device and why it was selected in one line, such as `cpu: no GPU found`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_can_be_selected_on_every_machine() {
        let cpu = DeviceChoice::Cpu.select().unwrap();
        assert_eq!((cpu.is_gpu(), cpu.reason()), (false, "cpu: as asked"));
    }
}

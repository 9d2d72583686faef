//! The devices of this machine, which the command `forebay devices` lists.

use std::num::NonZeroUsize;

use super::{DeviceChoice, gpu};

pub(super) const SPIR_V: &str = "SPIR-V";

/// A device that a model can run on, described for users.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AvailableDevice {
    /// The choice that selects this device.
    pub choice: DeviceChoice,
    /// Whether [`DeviceChoice::Auto`] selects this device.
    pub is_auto: bool,
    /// Name as the driver gives it.
    pub name: String,
    /// The kind of device, its graphics API and its driver; for the CPU, its number of threads.
    pub details: String,
    /// The language that the device's kernels are compiled to, `SPIR-V` or `WGSL`; for the CPU, the
    /// vector instructions that they use.
    pub compiler: &'static str,
    /// Whether the device can compute in f16.
    pub has_f16: bool,
    /// Whether the device can multiply small matrices in one instruction.
    pub has_matrix_units: bool,
    /// Most bytes of one tensor, if there is a limit.
    pub largest_buffer: Option<u64>,
    /// Why this build cannot use the device, with a remedy. `None` if it can.
    pub refused: Option<&'static str>,
}

impl AvailableDevice {
    /// Returns whether this build uses the device's instructions for matrices, which provide most
    /// of a GPU's speed.
    #[must_use]
    pub fn uses_matrix_units(&self) -> bool {
        self.has_matrix_units && self.compiler == SPIR_V
    }
}

/// Lists the devices of this machine in this order: the GPUs, of which `auto` selects the first, a
/// software GPU if there is one, and the CPU.
#[must_use]
pub fn available_devices() -> Vec<AvailableDevice> {
    with_cpu(gpu::devices())
}

/// Appends the CPU to a list of GPUs.
pub(super) fn with_cpu(mut devices: Vec<AvailableDevice>) -> Vec<AvailableDevice> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let is_auto = !devices.iter().any(|device| device.is_auto);
    devices.push(AvailableDevice {
        choice: DeviceChoice::Cpu,
        is_auto,
        name: "the CPU".to_owned(),
        details: format!("{cores} threads"),
        compiler: forebay_cpu_encoder::instructions(),
        has_f16: false,
        has_matrix_units: false,
        largest_buffer: None,
        refused: None,
    });
    devices
}

//! The devices of this machine, which the command `forebay devices` lists.

use std::num::NonZeroUsize;

use super::DeviceChoice;
use super::adapters::{Adapter, Api, Compiler, adapters};
use super::select::{details, gpus, refusal, software};

const SPIR_V: &str = "SPIR-V";

/// A device that a model can run on, described for users.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    list(adapters(), Compiler::of)
}

fn list(all: &[Adapter], compiler: impl Fn(Api) -> Compiler) -> Vec<AvailableDevice> {
    let gpus = gpus(all);
    let has_gpu = !gpus.is_empty();
    let gpus = gpus
        .into_iter()
        .enumerate()
        .map(|(number, adapter)| (DeviceChoice::Gpu(Some(number)), adapter));
    let software = software(all).take(1).map(|adapter| (DeviceChoice::Software, adapter));
    let adapters = gpus.chain(software).map(|(choice, adapter)| {
        let compiler = compiler(adapter.api);
        AvailableDevice {
            choice,
            is_auto: choice == DeviceChoice::Gpu(Some(0)),
            name: adapter.name.clone(),
            details: details(adapter),
            compiler: match compiler {
                Compiler::Wgsl => "WGSL",
                Compiler::SpirV => SPIR_V,
            },
            has_f16: adapter.has_f16,
            has_matrix_units: adapter.has_matrix_units,
            largest_buffer: Some(adapter.largest_buffer),
            refused: refusal(adapter, compiler),
        }
    });
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cpu = AvailableDevice {
        choice: DeviceChoice::Cpu,
        is_auto: !has_gpu,
        name: "the CPU".to_owned(),
        details: format!("{cores} threads"),
        compiler: forebay_cpu_encoder::instructions(),
        has_f16: false,
        has_matrix_units: false,
        largest_buffer: None,
        refused: None,
    };
    adapters.chain([cpu]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::adapters::Kind;
    use super::super::select::tests::adapter;
    use super::*;

    #[test]
    fn auto_selects_the_gpu_that_is_listed_first() {
        let all = [
            adapter("llvmpipe", Api::Vulkan, Kind::Software, 0),
            adapter("Iris", Api::Vulkan, Kind::Integrated, 0),
            adapter("RTX", Api::Vulkan, Kind::Discrete, 0),
        ];
        for (compiler, name) in [(Compiler::SpirV, "SPIR-V"), (Compiler::Wgsl, "WGSL")] {
            let listed = list(&all, |_| compiler);
            let names: Vec<_> = listed.iter().map(|device| device.name.as_str()).collect();
            assert_eq!(names, ["RTX", "Iris", "llvmpipe", "the CPU"]);
            assert_eq!(listed[0].choice, DeviceChoice::Gpu(Some(0)));
            assert_eq!(listed[0].compiler, name);
            assert_eq!(listed[0].uses_matrix_units(), compiler == Compiler::SpirV);
            assert!(!listed[1].uses_matrix_units());
            let auto: Vec<_> = listed.iter().map(|device| device.is_auto).collect();
            assert_eq!(auto, [true, false, false, false]);
            assert_eq!(listed[2].refused.is_some(), compiler == Compiler::SpirV);
        }
        let nothing = list(&all[..1], |_| Compiler::Wgsl);
        let auto: Vec<_> = nothing.iter().map(|device| device.is_auto).collect();
        assert_eq!(auto, [false, true], "`auto` never selects a software adapter");
        let nothing = list(&[], |_| Compiler::Wgsl);
        assert_eq!(
            nothing.iter().map(|device| device.choice).collect::<Vec<_>>(),
            [DeviceChoice::Cpu]
        );
    }
}

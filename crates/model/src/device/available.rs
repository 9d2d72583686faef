//! The devices that `forebay devices` lists.

use std::num::NonZeroUsize;

use super::DeviceChoice;
use super::adapters::{Adapter, Api, Compiler, adapters};
use super::select::{details, gpus, refusal, software};

const SPIR_V: &str = "SPIR-V";

/// A device that a model can be given, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailableDevice {
    /// The choice that selects this device.
    pub choice: DeviceChoice,
    /// Whether [`DeviceChoice::Auto`] selects this device too.
    pub is_auto: bool,
    /// Its name by its driver.
    pub name: String,
    /// What kind of device it is, its graphics API and its driver.
    pub details: String,
    /// What kernels for it are compiled to: `SPIR-V`, `WGSL`, or the vector instructions of a CPU.
    pub compiler: &'static str,
    /// Whether it computes in f16.
    pub has_f16: bool,
    /// Whether it multiplies small matrices in one instruction.
    pub has_matrix_units: bool,
    /// Most bytes of one tensor, where there is a limit.
    pub largest_buffer: Option<u64>,
    /// Why it cannot be used after all, and what to do about it.
    pub refused: Option<&'static str>,
}

impl AvailableDevice {
    /// Whether kernels of this build use the matrix instructions that it has, which are most of a GPU's speed.
    #[must_use]
    pub fn uses_matrix_units(&self) -> bool {
        self.has_matrix_units && self.compiler == SPIR_V
    }
}

/// Every device that this machine has, the one that `auto` takes first; the CPU, which it always has, comes last.
#[must_use]
pub fn available_devices() -> Vec<AvailableDevice> {
    list(adapters(), Compiler::of)
}

fn list(there: &[Adapter], compiler: impl Fn(Api) -> Compiler) -> Vec<AvailableDevice> {
    let gpus = gpus(there);
    let has_gpu = !gpus.is_empty();
    let gpus = gpus
        .into_iter()
        .enumerate()
        .map(|(number, adapter)| (DeviceChoice::Gpu(Some(number)), adapter));
    let software = software(there).take(1).map(|adapter| (DeviceChoice::Software, adapter));
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
    fn devices_are_listed_as_they_are_chosen_and_auto_takes_the_first() {
        let there = [
            adapter("llvmpipe", Api::Vulkan, Kind::Software, 0),
            adapter("Iris", Api::Vulkan, Kind::Integrated, 0),
            adapter("RTX", Api::Vulkan, Kind::Discrete, 0),
        ];
        for (compiler, name) in [(Compiler::SpirV, "SPIR-V"), (Compiler::Wgsl, "WGSL")] {
            let listed = list(&there, |_| compiler);
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
        let nothing = list(&there[..1], |_| Compiler::Wgsl);
        let auto: Vec<_> = nothing.iter().map(|device| device.is_auto).collect();
        assert_eq!(auto, [false, true], "a software adapter has to be asked for");
        let nothing = list(&[], |_| Compiler::Wgsl);
        assert_eq!(
            nothing.iter().map(|device| device.choice).collect::<Vec<_>>(),
            [DeviceChoice::Cpu]
        );
    }
}

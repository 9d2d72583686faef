//! Lists the graphics adapters as devices.

use super::adapters::{Adapter, Api, Compiler, adapters};
use super::pick::{details, gpus, refusal, software};
use crate::device::DeviceChoice;
use crate::device::available::{AvailableDevice, SPIR_V};

/// Lists the GPUs of this machine, of which `auto` selects the first, and a software GPU if there
/// is one.
pub(in crate::device) fn devices() -> Vec<AvailableDevice> {
    list(adapters(), Compiler::of)
}

fn list(all: &[Adapter], compiler: impl Fn(Api) -> Compiler) -> Vec<AvailableDevice> {
    let gpus = gpus(all)
        .into_iter()
        .enumerate()
        .map(|(number, adapter)| (DeviceChoice::Gpu(Some(number)), adapter));
    let software = software(all).take(1).map(|adapter| (DeviceChoice::Software, adapter));
    let devices = gpus.chain(software).map(|(choice, adapter)| {
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
    devices.collect()
}

#[cfg(test)]
mod tests {
    use super::super::adapters::Kind;
    use super::super::pick::tests::adapter;
    use super::*;
    use crate::device::available::with_cpu;

    #[test]
    fn auto_selects_the_gpu_that_is_listed_first() {
        let all = [
            adapter("llvmpipe", Api::Vulkan, Kind::Software, 0),
            adapter("Iris", Api::Vulkan, Kind::Integrated, 0),
            adapter("RTX", Api::Vulkan, Kind::Discrete, 0),
        ];
        for (compiler, name) in [(Compiler::SpirV, "SPIR-V"), (Compiler::Wgsl, "WGSL")] {
            let listed = with_cpu(list(&all, |_| compiler));
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
        let nothing = with_cpu(list(&all[..1], |_| Compiler::Wgsl));
        let auto: Vec<_> = nothing.iter().map(|device| device.is_auto).collect();
        assert_eq!(auto, [false, true], "`auto` never selects a software adapter");
        let nothing = with_cpu(list(&[], |_| Compiler::Wgsl));
        assert_eq!(
            nothing.iter().map(|device| device.choice).collect::<Vec<_>>(),
            [DeviceChoice::Cpu]
        );
    }
}

//! From a choice and the adapters there are to one Burn device, with the reason in words.

use burn::tensor::Device;

use super::adapters::{Adapter, Compiler, Kind, adapters};
use super::{DeviceChoice, open};
use crate::Error;

/// A device, ready for tensors, and why it was taken.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    device: Device,
    gpu: Option<Kind>,
    largest_buffer: u64,
    reason: String,
}

impl DeviceChoice {
    /// Finds and opens the chosen device.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] where this machine has no such device, [`Error::OpenDevice`] where its driver refuses it.
    pub fn select(self) -> Result<SelectedDevice, Error> {
        // A model on the CPU needs no graphics driver, and should not wait for one.
        let there = if self == Self::Cpu { &[] } else { adapters() };
        let Some((adapter, reason)) = pick(self, there)? else {
            let reason = reason_for_cpu(self, there);
            let (device, largest_buffer) = (Device::flex(), u64::MAX);
            return Ok(SelectedDevice { device, gpu: None, largest_buffer, reason });
        };
        let (device, largest_buffer) = (open::open(adapter)?, adapter.largest_buffer);
        Ok(SelectedDevice { device, gpu: Some(adapter.kind), largest_buffer, reason })
    }
}

impl SelectedDevice {
    /// The Burn device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether kernels run through wgpu, where every new shape costs a compilation.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Whether the GPU is played by the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.gpu == Some(Kind::Software)
    }

    /// Most bytes that one tensor may have.
    #[must_use]
    pub fn largest_buffer(&self) -> u64 {
        self.largest_buffer
    }

    /// The device and why it was taken, in one line: `cpu: no GPU found`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The adapter to use and the reason in words, or `None` for the CPU.
fn pick(choice: DeviceChoice, there: &[Adapter]) -> Result<Option<(&Adapter, String)>, Error> {
    let gpus = gpus(there);
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => Ok(gpus.first().map(|gpu| (*gpu, describe(gpu)))),
        DeviceChoice::Gpu(number) => match gpus.get(number.unwrap_or(0)) {
            Some(gpu) => Ok(Some((gpu, describe(gpu)))),
            None => Err(Error::NoDevice {
                asked: choice.to_string(),
                found: summary(there),
                advice: "install the GPU's Vulkan driver and loader, or use `auto` or `cpu`",
            }),
        },
        DeviceChoice::Software => match software(there).next() {
            Some(adapter) => match refusal(adapter, Compiler::of(adapter.api)) {
                Some(advice) => {
                    let (asked, found) = (choice.to_string(), summary(there));
                    Err(Error::NoDevice { asked, found, advice })
                }
                None => Ok(Some((adapter, describe(adapter)))),
            },
            None => Err(Error::NoDevice {
                asked: choice.to_string(),
                found: summary(there),
                advice: "install a software Vulkan driver such as Mesa's llvmpipe, or use `cpu`",
            }),
        },
    }
}

/// Real GPUs, best first, each listed on its best API only.
pub(super) fn gpus(there: &[Adapter]) -> Vec<&Adapter> {
    let mut gpus: Vec<_> = there.iter().filter(|adapter| adapter.kind != Kind::Software).collect();
    if let Some(best) = gpus.iter().map(|gpu| gpu.api).min() {
        gpus.retain(|gpu| gpu.api == best);
    }
    gpus.sort_by_key(|gpu| (gpu.kind, gpu.index));
    gpus
}

pub(super) fn software(there: &[Adapter]) -> impl Iterator<Item = &Adapter> {
    there.iter().filter(|adapter| adapter.kind == Kind::Software)
}

/// Why an adapter cannot serve kernels of such a compiler, as advice.
pub(super) fn refusal(adapter: &Adapter, compiler: Compiler) -> Option<&'static str> {
    let refused = adapter.kind == Kind::Software && compiler == Compiler::SpirV;
    refused.then_some(
        "this build compiles kernels to SPIR-V, with which software adapters crash or compute wrong results; use a \
         build without the feature `spirv`, or `cpu`",
    )
}

fn describe(adapter: &Adapter) -> String {
    format!("gpu: {} ({})", adapter.name, details(adapter))
}

pub(super) fn details(adapter: &Adapter) -> String {
    let kind = match adapter.kind {
        Kind::Discrete => "discrete GPU",
        Kind::Integrated => "integrated GPU",
        Kind::Virtual => "virtual GPU",
        Kind::Software => "software adapter",
    };
    let driver = if adapter.driver.is_empty() { "" } else { ", driver " };
    format!("{kind}, {:?}{driver}{}", adapter.api, adapter.driver)
}

fn reason_for_cpu(choice: DeviceChoice, there: &[Adapter]) -> String {
    if choice == DeviceChoice::Cpu {
        "cpu: as asked".into()
    } else {
        format!("cpu: {}", summary(there))
    }
}

/// What there is, for reasons and errors: `no GPU found, software ignored (llvmpipe)`.
fn summary(there: &[Adapter]) -> String {
    let gpus = gpus(there);
    let found = match gpus.len() {
        0 => "no GPU found".to_owned(),
        1 => format!("1 GPU found ({})", gpus[0].name),
        count => format!("{count} GPUs found, numbered from 0"),
    };
    let ignored: Vec<_> = software(there).map(|adapter| adapter.name.as_str()).collect();
    if ignored.is_empty() {
        found
    } else {
        format!("{found}, software ignored ({})", ignored.join(", "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::adapters::Api;
    use super::*;

    pub(in crate::device) fn adapter(name: &str, api: Api, kind: Kind, index: usize) -> Adapter {
        let (name, driver) = (name.to_owned(), String::new());
        let (has_f16, has_matrix_units) = (true, kind == Kind::Discrete);
        let largest_buffer = 1 << 30;
        Adapter { name, api, kind, driver, index, largest_buffer, has_f16, has_matrix_units }
    }

    fn picked(choice: DeviceChoice, there: &[Adapter]) -> Option<String> {
        pick(choice, there).unwrap().map(|(_, reason)| reason)
    }

    #[test]
    fn auto_takes_the_best_real_gpu() {
        let there = [
            adapter("llvmpipe", Api::Vulkan, Kind::Software, 0),
            adapter("Iris", Api::Vulkan, Kind::Integrated, 0),
            adapter("RTX", Api::Vulkan, Kind::Discrete, 0),
            adapter("RTX", Api::Dx12, Kind::Discrete, 0),
        ];
        let rtx = Some("gpu: RTX (discrete GPU, Vulkan)".to_owned());
        assert_eq!(picked(DeviceChoice::Auto, &there), rtx);
        assert_eq!(picked(DeviceChoice::Gpu(Some(0)), &there), rtx);
        let iris = Some("gpu: Iris (integrated GPU, Vulkan)".to_owned());
        assert_eq!(picked(DeviceChoice::Gpu(Some(1)), &there), iris);
        let error = pick(DeviceChoice::Gpu(Some(2)), &there).unwrap_err().to_string();
        assert!(error.contains("2 GPUs found, numbered from 0"), "{error}");
    }

    #[test]
    fn auto_ignores_software_adapters_and_says_so() {
        let there = [adapter("llvmpipe", Api::Vulkan, Kind::Software, 0)];
        assert_eq!(picked(DeviceChoice::Auto, &there), None);
        assert_eq!(
            reason_for_cpu(DeviceChoice::Auto, &there),
            "cpu: no GPU found, software ignored (llvmpipe)"
        );
        assert!(picked(DeviceChoice::Software, &there).unwrap().contains("llvmpipe"));
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = pick(DeviceChoice::Gpu(None), &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "no such device as `gpu`: no GPU found; install the GPU's Vulkan driver and loader, or use \
             `auto` or `cpu`"
        );
        let error = pick(DeviceChoice::Software, &[]).unwrap_err().to_string();
        assert!(error.contains("install a software Vulkan driver"), "{error}");
    }

    #[test]
    fn a_software_adapter_is_not_given_kernels_that_it_gets_wrong() {
        let software = adapter("llvmpipe", Api::Vulkan, Kind::Software, 0);
        let gpu = adapter("RTX", Api::Vulkan, Kind::Discrete, 0);
        assert!(
            refusal(&software, Compiler::SpirV).unwrap().contains("without the feature `spirv`")
        );
        assert_eq!(refusal(&software, Compiler::Wgsl), None);
        assert_eq!(refusal(&gpu, Compiler::SpirV), None);
    }

    #[test]
    fn the_cpu_is_always_there() {
        let cpu = DeviceChoice::Cpu.select().unwrap();
        assert_eq!((cpu.is_gpu(), cpu.reason()), (false, "cpu: as asked"));
    }
}

//! Picking the adapter that the user's choice means, with the reason in words.

use super::adapters::{Adapter, Compiler, Kind, adapters};
use super::open;
use crate::Error;
use crate::device::{DeviceChoice, SelectedDevice};

/// Finds and opens the chosen device.
pub(in crate::device) fn select(choice: DeviceChoice) -> Result<SelectedDevice, Error> {
    // For the CPU, the graphics adapters are not enumerated, because that takes time and may need
    // a working graphics driver.
    let adapters = if choice == DeviceChoice::Cpu { &[] } else { adapters() };
    let Some((adapter, reason)) = pick(choice, adapters)? else {
        return Ok(SelectedDevice::cpu(reason_for_cpu(choice, adapters)));
    };
    Ok(SelectedDevice {
        device: open::open(adapter)?,
        is_gpu: true,
        is_software: adapter.kind == Kind::Software,
        largest_buffer: adapter.largest_buffer,
        reason,
    })
}

/// Returns the adapter to use and the reason in words, or `None` for the CPU.
fn pick(choice: DeviceChoice, adapters: &[Adapter]) -> Result<Option<(&Adapter, String)>, Error> {
    let gpus = gpus(adapters);
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => Ok(gpus.first().map(|gpu| (*gpu, describe(gpu)))),
        DeviceChoice::Gpu(number) => match gpus.get(number.unwrap_or(0)) {
            Some(gpu) => Ok(Some((gpu, describe(gpu)))),
            None => Err(Error::NoDevice {
                asked: choice.to_string(),
                found: summary(adapters),
                advice: "install the GPU's Vulkan driver and loader, or use `auto` or `cpu`",
            }),
        },
        DeviceChoice::Software => match software(adapters).next() {
            Some(adapter) => match refusal(adapter, Compiler::of(adapter.api)) {
                Some(advice) => Err(Error::NoDevice {
                    asked: choice.to_string(),
                    found: summary(adapters),
                    advice,
                }),
                None => Ok(Some((adapter, describe(adapter)))),
            },
            None => Err(Error::NoDevice {
                asked: choice.to_string(),
                found: summary(adapters),
                advice: "install a software Vulkan driver such as Mesa's llvmpipe, or use `cpu`",
            }),
        },
    }
}

/// Returns the GPUs that are not emulated, best first. Only those of the best API are returned,
/// because a GPU is usually listed once for each API.
pub(super) fn gpus(adapters: &[Adapter]) -> Vec<&Adapter> {
    let mut gpus: Vec<_> =
        adapters.iter().filter(|adapter| adapter.kind != Kind::Software).collect();
    if let Some(best) = gpus.iter().map(|gpu| gpu.api).min() {
        gpus.retain(|gpu| gpu.api == best);
    }
    gpus.sort_by_key(|gpu| (gpu.kind, gpu.index));
    gpus
}

pub(super) fn software(adapters: &[Adapter]) -> impl Iterator<Item = &Adapter> {
    adapters.iter().filter(|adapter| adapter.kind == Kind::Software)
}

/// Returns why an adapter cannot run kernels that are compiled in this way, with a remedy. `None`
/// if it can.
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

fn reason_for_cpu(choice: DeviceChoice, adapters: &[Adapter]) -> String {
    if choice == DeviceChoice::Cpu {
        "cpu: as asked".into()
    } else {
        format!("cpu: {}", summary(adapters))
    }
}

/// Describes the machine's GPUs in a few words, such as `no GPU found, software ignored
/// (llvmpipe)`.
fn summary(adapters: &[Adapter]) -> String {
    let gpus = gpus(adapters);
    let found = match gpus.len() {
        0 => "no GPU found".to_owned(),
        1 => format!("1 GPU found ({})", gpus[0].name),
        count => format!("{count} GPUs found, numbered from 0"),
    };
    let ignored: Vec<_> = software(adapters).map(|adapter| adapter.name.as_str()).collect();
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
        Adapter {
            name: name.to_owned(),
            api,
            kind,
            driver: String::new(),
            index,
            largest_buffer: 1 << 30,
            has_f16: true,
            has_matrix_units: kind == Kind::Discrete,
        }
    }

    fn picked(choice: DeviceChoice, adapters: &[Adapter]) -> Option<String> {
        pick(choice, adapters).unwrap().map(|(_, reason)| reason)
    }

    #[test]
    fn auto_selects_the_best_gpu_that_is_not_emulated() {
        let adapters = [
            adapter("llvmpipe", Api::Vulkan, Kind::Software, 0),
            adapter("Iris", Api::Vulkan, Kind::Integrated, 0),
            adapter("RTX", Api::Vulkan, Kind::Discrete, 0),
            adapter("RTX", Api::Dx12, Kind::Discrete, 0),
        ];
        let rtx = Some("gpu: RTX (discrete GPU, Vulkan)".to_owned());
        assert_eq!(picked(DeviceChoice::Auto, &adapters), rtx);
        assert_eq!(picked(DeviceChoice::Gpu(Some(0)), &adapters), rtx);
        let iris = Some("gpu: Iris (integrated GPU, Vulkan)".to_owned());
        assert_eq!(picked(DeviceChoice::Gpu(Some(1)), &adapters), iris);
        let error = pick(DeviceChoice::Gpu(Some(2)), &adapters).unwrap_err().to_string();
        assert!(error.contains("2 GPUs found, numbered from 0"), "{error}");
    }

    #[test]
    fn auto_reports_the_software_adapters_that_it_ignores() {
        let adapters = [adapter("llvmpipe", Api::Vulkan, Kind::Software, 0)];
        assert_eq!(picked(DeviceChoice::Auto, &adapters), None);
        assert_eq!(
            reason_for_cpu(DeviceChoice::Auto, &adapters),
            "cpu: no GPU found, software ignored (llvmpipe)"
        );
        assert!(picked(DeviceChoice::Software, &adapters).unwrap().contains("llvmpipe"));
    }

    #[test]
    fn a_missing_gpu_is_an_error_with_a_remedy() {
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
    fn a_software_adapter_is_refused_for_spirv_kernels() {
        let software = adapter("llvmpipe", Api::Vulkan, Kind::Software, 0);
        let gpu = adapter("RTX", Api::Vulkan, Kind::Discrete, 0);
        assert!(
            refusal(&software, Compiler::SpirV).unwrap().contains("without the feature `spirv`")
        );
        assert_eq!(refusal(&software, Compiler::Wgsl), None);
        assert_eq!(refusal(&gpu, Compiler::SpirV), None);
    }
}

//! The graphics adapters of this machine, enumerated once.

use std::sync::OnceLock;

use burn::tensor::DeviceKind;
use burn::tensor::wgpu::{WgpuBackend, wgpu};

/// A graphics adapter, as one graphics API presents it. A GPU with two APIs is two adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Adapter {
    /// Name as the driver gives it, such as `NVIDIA H100` or `llvmpipe (LLVM 19.1.7, 256 bits)`.
    pub(super) name: String,
    pub(super) api: Api,
    pub(super) kind: Kind,
    /// Name and version of the driver, such as `NVIDIA 580.159.04`; empty if the API does not say.
    pub(super) driver: String,
    /// Index among the adapters of the same API and kind. Burn identifies an adapter by these
    /// three.
    pub(super) index: usize,
    /// Most bytes in one buffer of a kernel.
    pub(super) largest_buffer: u64,
    /// Whether kernels can compute in f16.
    pub(super) has_f16: bool,
    /// Whether the adapter multiplies small matrices in one instruction.
    pub(super) has_matrix_units: bool,
}

/// A graphics API that can run compute kernels. The best one comes first: on Vulkan, Burn can
/// compile kernels directly to the API's own format, SPIR-V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Api {
    Vulkan,
    Metal,
    Dx12,
}

/// The language that kernels are compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compiler {
    /// WGSL, which runs on any adapter but cannot use matrix units.
    Wgsl,
    /// SPIR-V, which can use matrix units.
    SpirV,
}

/// The kind of device behind an adapter. The best one comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Discrete,
    Integrated,
    Virtual,
    Software,
}

/// Returns every adapter of this machine. On Linux the list is empty if there is no Vulkan loader,
/// driver or device.
///
/// Adapters are enumerated only once. The Vulkan loader crashes if several threads create and drop
/// instances at the same time, so the enumeration has to be over before Burn creates its instance.
pub(super) fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(enumerate)
}

fn enumerate() -> Vec<Adapter> {
    let backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = futures::executor::block_on(instance.enumerate_adapters(backends));
    numbered(found.iter().map(|adapter| (adapter.get_info(), adapter.limits(), adapter.features())))
}

/// Numbers the adapters of each API and kind, in the order in which the API lists them.
fn numbered(
    found: impl Iterator<Item = (wgpu::AdapterInfo, wgpu::Limits, wgpu::Features)>,
) -> Vec<Adapter> {
    let mut adapters: Vec<Adapter> = Vec::new();
    for (info, limits, features) in found {
        let (Some(api), Some(kind)) = (Api::of(info.backend), Kind::of(info.device_type)) else {
            continue;
        };
        let index = adapters.iter().filter(|seen| (seen.api, seen.kind) == (api, kind)).count();
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        adapters.push(Adapter {
            name: info.name,
            api,
            kind,
            driver,
            index,
            largest_buffer: limits.max_storage_buffer_binding_size,
            has_f16: features.contains(wgpu::Features::SHADER_F16),
            has_matrix_units: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        });
    }
    adapters
}

impl Adapter {
    /// Returns Burn's identifier of the adapter.
    pub(super) fn burn_kind(&self) -> DeviceKind {
        match self.kind {
            Kind::Discrete => DeviceKind::DiscreteGpu(self.index),
            Kind::Integrated => DeviceKind::IntegratedGpu(self.index),
            Kind::Virtual => DeviceKind::VirtualGpu(self.index),
            Kind::Software => DeviceKind::Cpu,
        }
    }
}

impl Compiler {
    /// Returns the language that this build compiles an API's kernels to.
    pub(super) fn of(api: Api) -> Self {
        if cfg!(feature = "spirv") && api == Api::Vulkan { Self::SpirV } else { Self::Wgsl }
    }
}

impl Api {
    fn of(backend: wgpu::Backend) -> Option<Self> {
        match backend {
            wgpu::Backend::Vulkan => Some(Self::Vulkan),
            wgpu::Backend::Metal => Some(Self::Metal),
            wgpu::Backend::Dx12 => Some(Self::Dx12),
            _ => None,
        }
    }

    /// Returns Burn's identifier of the API.
    pub(super) fn burn_api(self) -> WgpuBackend {
        match self {
            Self::Vulkan => WgpuBackend::Vulkan,
            Self::Metal => WgpuBackend::Metal,
            Self::Dx12 => WgpuBackend::Dx12,
        }
    }
}

impl Kind {
    fn of(device_type: wgpu::DeviceType) -> Option<Self> {
        match device_type {
            wgpu::DeviceType::DiscreteGpu => Some(Self::Discrete),
            wgpu::DeviceType::IntegratedGpu => Some(Self::Integrated),
            wgpu::DeviceType::VirtualGpu => Some(Self::Virtual),
            wgpu::DeviceType::Cpu => Some(Self::Software),
            wgpu::DeviceType::Other => None,
        }
    }
}

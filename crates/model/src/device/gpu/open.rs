//! Opening an adapter through Burn, once per process.

use parking_lot::Mutex;

use burn::tensor::Device;
use cubecl_environment::config::RuntimeConfig as _;
use cubecl_runtime::config::CubeClRuntimeConfig;
use cubecl_runtime::config::cache::CacheConfig;

use super::adapters::Adapter;
use crate::Error;

/// The adapters that this process has opened. They are kept because Burn never closes a device, and
/// refuses to initialise it twice.
static OPENED: Mutex<Vec<(Adapter, Device)>> = Mutex::new(Vec::new());

/// Returns the device of an adapter, opening it if this is the first call for it.
pub(super) fn open(adapter: &Adapter) -> Result<Device, Error> {
    let mut opened = OPENED.lock();
    if let Some((_, device)) = opened.iter().find(|(seen, _)| seen == adapter) {
        return Ok(device.clone());
    }
    remember_tuning();
    let device = Device::wgpu_options()
        .device_kind(adapter.burn_kind())
        .graphics_api(adapter.api.burn_api())
        .init()
        .map_err(|source| Error::OpenDevice { name: adapter.name.clone(), source })?;
    opened.push((adapter.clone(), device.clone()));
    Ok(device)
}

/// Makes Burn store the results of autotuning in the user's cache folder, so that the next start
/// need not tune again.
fn remember_tuning() {
    if !cfg!(feature = "persistence") {
        tracing::info!(
            "the GPU's kernels are tuned at every start; build with `--features persistence` to store the results"
        );
        return;
    }
    let Some(cache) = dirs::cache_dir() else { return };
    let mut config = CubeClRuntimeConfig::default();
    config.environment.path = CacheConfig::Directory(cache.join("forebay/kernels"));
    // Setting fails if the program itself has configured Burn before. Its configuration stays.
    if !CubeClRuntimeConfig::try_set(config) {
        tracing::debug!("Burn is configured already; its cache directory is unchanged");
    }
}

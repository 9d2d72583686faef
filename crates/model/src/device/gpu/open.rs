//! Opening an adapter through Burn, once per process.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use parking_lot::Mutex;
use tempfile::NamedTempFile;

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
    let folder = match dirs::cache_dir() {
        Some(cache) => writable(cache.join("forebay/kernels")),
        None => Err("there is no home directory".to_owned()),
    };
    let folder = folder.unwrap_or_else(|why| {
        tracing::warn!(
            "the GPU's kernels are tuned at every start, because the results cannot be stored ({why}); set \
             XDG_CACHE_HOME to a folder that this user may write to"
        );
        // Without a folder that it can write to, Burn would warn once for each kernel.
        std::env::temp_dir().join(format!("forebay-kernels-{}", std::process::id()))
    });
    let mut config = CubeClRuntimeConfig::default();
    config.environment.path = CacheConfig::Directory(folder);
    // Setting fails if the program itself has configured Burn before. Its configuration stays.
    if !CubeClRuntimeConfig::try_set(config) {
        tracing::debug!("Burn is configured already; its cache directory is unchanged");
    }
}

/// Returns the folder, after it has been made, if a file can be written to it.
fn writable(folder: PathBuf) -> Result<PathBuf, String> {
    let written = fs::create_dir_all(&folder).and_then(|()| {
        let mut file = NamedTempFile::new_in(&folder)?;
        file.write_all(b"forebay")
    });
    match written {
        Ok(()) => Ok(folder),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::writable;

    #[test]
    fn a_folder_that_cannot_be_written_is_named_b9() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("a/b");
        assert_eq!(writable(folder.clone()), Ok(folder.clone()));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let message = writable(file.join("kernels")).unwrap_err();
        assert!(message.contains("file/kernels: Not a directory"), "{message}");
    }
}

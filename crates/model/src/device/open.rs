//! Opening an adapter through Burn, once in the life of the process.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use super::adapters::Adapter;
use crate::Error;

/// Adapters opened so far. Burn keeps a device for good and refuses to initialise it twice.
static OPENED: Mutex<Vec<(Adapter, Device)>> = Mutex::new(Vec::new());

pub(super) fn open(adapter: &Adapter) -> Result<Device, Error> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = opened.iter().find(|(seen, _)| seen == adapter) {
        return Ok(device.clone());
    }
    let device = Device::wgpu_options()
        .device_kind(adapter.burn_kind())
        .graphics_api(adapter.api.burn_api())
        .init()
        .map_err(|source| Error::OpenDevice { name: adapter.name.clone(), source })?;
    opened.push((adapter.clone(), device.clone()));
    Ok(device)
}

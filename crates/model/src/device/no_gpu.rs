//! The devices of a build without the feature `gpu`: the CPU is the only one.

use super::{AvailableDevice, DeviceChoice, SelectedDevice};
use crate::Error;

const NO_SUPPORT: &str = "this build has no GPU support";

/// Selects the CPU. Every choice of a GPU is an error.
pub(super) fn select(choice: DeviceChoice) -> Result<SelectedDevice, Error> {
    match choice {
        DeviceChoice::Cpu => Ok(SelectedDevice::cpu("cpu: as asked".to_owned())),
        DeviceChoice::Auto => Ok(SelectedDevice::cpu(format!("cpu: {NO_SUPPORT}"))),
        DeviceChoice::Gpu(_) | DeviceChoice::Software => Err(Error::NoDevice {
            asked: choice.to_string(),
            found: NO_SUPPORT.to_owned(),
            advice: "build with the cargo feature `gpu`, or use `auto` or `cpu`",
        }),
    }
}

/// Returns no devices, because this build does not look for GPUs.
pub(super) fn devices() -> Vec<AvailableDevice> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_gpu_support_says_so_and_how_to_get_it() {
        for asked in ["gpu", "gpu:1", "gpu:software"] {
            let choice: DeviceChoice = asked.parse().unwrap();
            assert_eq!(
                select(choice).unwrap_err().to_string(),
                format!(
                    "no such device as `{asked}`: this build has no GPU support; build with the cargo \
                     feature `gpu`, or use `auto` or `cpu`"
                )
            );
        }
        let auto = select(DeviceChoice::Auto).unwrap();
        assert_eq!(auto.reason(), "cpu: this build has no GPU support");
        assert_eq!(devices(), []);
    }
}

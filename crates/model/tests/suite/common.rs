//! Helpers of the tests against reference values.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use forebay_model::{DeviceChoice, Error, TextModelOptions};

/// Returns the path of a file or directory of reference values.
pub(crate) fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Returns the options for the model at `path` on one device, with at most `max_batch` texts in one
/// run.
pub(crate) fn options(path: &Path, device: DeviceChoice, max_batch: usize) -> TextModelOptions {
    let max_batch = NonZeroUsize::new(max_batch).unwrap();
    TextModelOptions { device, max_batch, ..TextModelOptions::new(path) }
}

/// Returns the devices that tests run on: the CPU, and a software GPU if there is one.
pub(crate) fn devices() -> Vec<DeviceChoice> {
    match DeviceChoice::Software.select() {
        Ok(_) => vec![DeviceChoice::Cpu, DeviceChoice::Software],
        Err(error @ Error::NoDevice { .. }) => {
            skip(&format!("gpu:software ({error})"));
            vec![DeviceChoice::Cpu]
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Prints that `what` is missing and not tested. Panics in CI, where everything must be tested.
pub(crate) fn skip(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must test everything, but this is missing: {what}"
    );
    println!("skipped: {what}");
}

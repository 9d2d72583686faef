//! What the tests against reference values share.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use forebay_model::{DeviceChoice, Error, TextModelOptions};

/// A file or directory of reference values.
pub(crate) fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Options for a test: one device, at most `max_batch` texts at once.
pub(crate) fn options(path: &Path, device: DeviceChoice, max_batch: usize) -> TextModelOptions {
    let max_batch = NonZeroUsize::new(max_batch).unwrap();
    TextModelOptions { device, max_batch, ..TextModelOptions::new(path) }
}

/// The devices that tests run on: the CPU, and a software GPU where there is one.
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

/// Says that something is not tested here; in CI everything must be.
pub(crate) fn skip(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must test everything, but this is missing: {what}"
    );
    println!("skipped: {what}");
}

//! Helpers of the tests: reference values, and changed copies of a tiny model.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use forebay_model::{DeviceChoice, Error, TextModel, TextModelOptions};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// Returns the path of a file or directory of reference values.
pub(crate) fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Returns a copy of the tiny BERT classifier, which a test may change.
pub(crate) fn copy() -> TempDir {
    copy_of("tiny-bert-classifier")
}

/// Returns a copy of a model among the reference values.
pub(crate) fn copy_of(model: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let original = reference(model);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::copy(original.join(file), directory.path().join(file)).unwrap();
    }
    directory
}

/// Returns a copy of the tiny BERT classifier with a change of one of its JSON files.
pub(crate) fn with(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let directory = copy();
    edit(&directory, file, change);
    directory
}

/// Changes a JSON file of a directory.
pub(crate) fn edit(directory: &TempDir, file: &str, change: impl FnOnce(&mut Value)) {
    let path = directory.path().join(file);
    let mut json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Writes a file of a directory, and the folder that it is in.
pub(crate) fn write(directory: &TempDir, file: &str, content: impl AsRef<[u8]>) {
    let path = directory.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Returns the options for the model in a directory, on the CPU.
pub(crate) fn options(directory: &TempDir) -> TextModelOptions {
    options_on(directory.path(), DeviceChoice::Cpu, 4)
}

/// Loads the model in a directory, and returns the error with its causes. File names in it are
/// without the directory's path.
pub(crate) fn error_message(directory: &TempDir) -> String {
    error_message_for(&options(directory))
}

pub(crate) fn error_message_for(options: &TextModelOptions) -> String {
    let Err(error) = TextModel::load(options) else { panic!("the model was loaded") };
    let path = format!("{}/", options.path.display());
    format!("{:#}", anyhow::Error::from(error)).replace(&path, "")
}

/// Loads the model in a directory, and returns its warnings. File names in them are without the
/// directory's path.
pub(crate) fn warnings(options: &TextModelOptions) -> Vec<String> {
    let path = format!("{}/", options.path.display());
    let model = TextModel::load(options).unwrap();
    model.warnings().iter().map(|warning| warning.replace(&path, "")).collect()
}

/// A tensor with its name, its shape and its numbers.
pub(crate) type Tensor = (String, Vec<usize>, Vec<f32>);

/// Returns the tensors of a directory's weights, sorted by name.
pub(crate) fn tensors(directory: &TempDir) -> Vec<Tensor> {
    let bytes = fs::read(directory.path().join("model.safetensors")).unwrap();
    let number = |four: &[u8; 4]| f32::from_le_bytes(*four);
    let mut tensors: Vec<_> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let numbers = view.data().as_chunks::<4>().0.iter().map(number).collect();
            (name, view.shape().to_vec(), numbers)
        })
        .collect();
    tensors.sort_by(|(left, ..), (right, ..)| left.cmp(right));
    tensors
}

/// Writes tensors to a file of a directory, in another number format if `element` makes one.
pub(crate) fn write_tensors(
    directory: &TempDir,
    file: &str,
    tensors: &[Tensor],
    dtype: Dtype,
    element: impl Fn(f32) -> Vec<u8>,
) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, numbers)| numbers.iter().copied().flat_map(&element).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    write(directory, file, safetensors::serialize(views, None).unwrap());
}

/// Changes the tensors of a directory's weights.
pub(crate) fn edit_tensors(directory: &TempDir, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut all = tensors(directory);
    change(&mut all);
    write_tensors(directory, "model.safetensors", &all, Dtype::F32, |number| {
        number.to_le_bytes().to_vec()
    });
}

/// Converts every tensor of a directory's weights to another type.
pub(crate) fn convert(directory: &TempDir, dtype: Dtype, element: impl Fn(f32) -> Vec<u8>) {
    write_tensors(directory, "model.safetensors", &tensors(directory), dtype, element);
}

/// Returns the options for the model at `path` on one device, with at most `max_batch` texts in one
/// run.
pub(crate) fn options_on(path: &Path, device: DeviceChoice, max_batch: usize) -> TextModelOptions {
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

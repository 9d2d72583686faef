//! `WeightFiles`: the bytes of a model's weights, in one file or in several.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{JsonFile, bytes};
use crate::{Error, FormatError};

/// The name of the file that has all weights, unless they are divided among several files.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The name of the file that lists the files among which the weights are divided.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The content of the files that hold a model's weights.
#[derive(Debug)]
pub struct WeightFiles {
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
}

impl WeightFiles {
    /// Reads `model.safetensors`, or the files that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] or [`Error::Json`], naming the file; [`FormatError::Convert`] if the
    /// directory has weights in the format of `PyTorch` only.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(WEIGHTS);
        let missing = match bytes::read(&path) {
            Err(Error::Read { source, path }) if source.kind() == ErrorKind::NotFound => {
                Error::Read { source, path }
            }
            other => return Ok(Self { files: vec![(path, other?)] }),
        };
        if let Some(index) = JsonFile::read_if_there(&directory.join(INDEX))? {
            let read = |name| {
                let path = directory.join(name);
                bytes::read(&path).map(|bytes| (path, bytes))
            };
            return Ok(Self {
                files: names(&index)?.into_iter().map(read).collect::<Result<_, _>>()?,
            });
        }
        Err(convertible(directory).map_or(missing, Error::from))
    }
}

/// Returns the names of the files among which the weights in `directory` are divided, if there is a
/// valid index of them.
#[cfg(feature = "hub")]
pub(crate) fn shards(directory: &Path) -> Option<Vec<String>> {
    let index = JsonFile::read(&directory.join(INDEX)).ok()?;
    Some(names(&index).ok()?.into_iter().map(str::to_owned).collect())
}

/// Returns the names of the files that an index lists.
fn names(index: &JsonFile) -> Result<BTreeSet<&str>, Error> {
    let bad = || index.bad("weight_map", "an object from tensors to files");
    let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(bad)?;
    let names = map.values().map(|name| {
        let name = name.as_str().ok_or_else(bad)?;
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            let path = index.path().to_owned();
            return Err(FormatError::OutsideDirectory { path, file: name.to_owned() }.into());
        }
        Ok(name)
    });
    names.collect()
}

/// Returns the error for weights in the format of `PyTorch`, with the command that converts them.
fn convertible(directory: &Path) -> Option<FormatError> {
    let files =
        ["pytorch_model.bin", "pytorch_model.bin.index.json"].map(|file| directory.join(file));
    let path = files.into_iter().find(|path| path.exists())?;
    let command = format!(
        "python3 -c \"import glob, torch, safetensors.torch as s; d = '{}/'; s.save_file({{k: v.clone().contiguous() \
         for f in glob.glob(d + 'pytorch_model*.bin') for k, v in torch.load(f, map_location='cpu', \
         weights_only=True).items()}}, d + '{WEIGHTS}')\"",
        directory.display()
    );
    Some(FormatError::Convert { path, target: WEIGHTS, command })
}

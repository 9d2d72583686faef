//! `FormatError`: the reasons why the content of a model's files cannot be used.

use std::path::PathBuf;

use thiserror::Error;

/// A file of a model has another format than Forebay reads, or two files contradict each other.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A text file is not in UTF-8.
    #[error("{} is in {encoding}; save it in UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The file's encoding.
        encoding: &'static str,
    },

    /// The file has not been fetched from Git LFS.
    #[error(
        "{} is a pointer of Git LFS instead of the file itself; run `git lfs pull` in its directory",
        path.display()
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },

    /// The model has a file only in a format that another program can convert.
    #[error("{} is not a format that Forebay reads; make {target} of it: {command}", path.display())]
    Convert {
        /// The file.
        path: PathBuf,
        /// The file that Forebay reads instead.
        target: &'static str,
        /// The shell command that converts the file.
        command: String,
    },

    /// An index of weights names a file outside the model's directory.
    #[error("{} names the file {file:?}, which is not in the same directory; move it there", path.display())]
    OutsideDirectory {
        /// The index.
        path: PathBuf,
        /// The name in the index.
        file: String,
    },

    /// The number of labels is not the number of the classifier's outputs.
    #[error(
        "{} names {labels} labels, but the classifier in {} has {outputs} outputs; correct `id2label`",
        config.display(),
        weights.display()
    )]
    LabelCount {
        /// The `config.json`.
        config: PathBuf,
        /// The number of labels in `config.json`.
        labels: u64,
        /// The file with the classifier's weights.
        weights: PathBuf,
        /// The number of the classifier's outputs.
        outputs: usize,
    },

    /// A tensor is larger than the device's buffers.
    #[error(
        "tensor `{name}` takes {bytes} bytes, but this device takes at most {most} in one tensor ({device}); \
         use another device, such as `cpu`"
    )]
    TooLarge {
        /// The tensor's name.
        name: String,
        /// The tensor's size on the device.
        bytes: u64,
        /// The largest buffer of the device.
        most: u64,
        /// The device and why it was chosen.
        device: String,
    },
}

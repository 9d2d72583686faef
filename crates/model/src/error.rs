//! `Error`: the reasons why a model cannot be loaded or started.

use std::path::PathBuf;

#[cfg(feature = "gpu")]
use burn::tensor::wgpu::WgpuInitError;
use safetensors::SafeTensorError;
use thiserror::Error;

use crate::FormatError;

/// An error from loading, placing or starting a model.
///
/// Messages are lowercase fragments that leave out the cause; walk
/// [`source`](std::error::Error::source) to see it. Failures of single requests are not errors but
/// [`Failure`](forebay_stream::Failure)s.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the model directory is missing or unreadable.
    #[error("cannot read {}; {}", path.display(), advice(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// A file is not valid JSON.
    #[error("invalid JSON in {}; correct it, or fetch the model again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The syntax error with its line and column.
        source: serde_json::Error,
    },

    /// A file has another format than Forebay reads, or contradicts another file.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// A key is missing or its value is not valid.
    #[error("{} has no valid `{key}`: expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The values that are valid.
        expected: &'static str,
    },

    /// The value of a key in a file is valid, but this version does not support it.
    #[error("{} asks for {key} = {found}, supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: String,
    },

    /// The task is not set and cannot be inferred from `config.json`.
    #[error(
        "cannot tell the task from `architectures` in {}; set the task to `text-embedding` or `text-classification`",
        path.display()
    )]
    UnknownTask {
        /// The `config.json`.
        path: PathBuf,
    },

    /// `tokenizer.json` is not a tokenizer that this version can read.
    #[error("cannot load the tokenizer {}; it may be damaged: fetch the model again", path.display())]
    Tokenizer {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The tokenizer library's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The tokenizer has tokens for which the model has no embedding.
    #[error(
        "{} yields token ids up to {highest}, but the model embeds {rows} tokens; \
         tokenizer and weights belong to different models",
        path.display()
    )]
    Vocabulary {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The highest id in the vocabulary.
        highest: u32,
        /// Rows of the embedding.
        rows: usize,
    },

    /// The weights' file is damaged or not a safetensors file.
    #[error("cannot parse {} as safetensors; fetch the model again", path.display())]
    Weights {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The parser's error.
        source: SafeTensorError,
    },

    /// The weights lack a tensor that the architecture needs.
    #[error("{} has no tensor `{name}`; the file belongs to another architecture or task", path.display())]
    MissingTensor {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },

    /// A tensor's shape is not the one that `config.json` implies.
    #[error(
        "tensor `{name}` in {} is {found:?}, but config.json asks for {expected:?}; correct config.json, or take the \
         weights that belong to it",
        path.display()
    )]
    TensorShape {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape that `config.json` implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A tensor has an element type that this version cannot read.
    #[error("tensor `{name}` in {} is {found}; convert it to F32, F16 or BF16", path.display())]
    TensorType {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The element type in the file.
        found: String,
    },

    /// `max_tokens` is larger than the number of the model's positions, or too small for any text.
    #[error("max_tokens = {asked} is out of range, this model takes {least} to {most}")]
    MaxTokens {
        /// The value that was set.
        asked: usize,
        /// The smallest valid value: enough tokens for the special tokens and one more.
        least: usize,
        /// The number of the model's positions.
        most: usize,
    },

    /// `dimensions` is larger than the length of the model's vectors.
    #[error("dimensions = {asked} is more than the {most} that this model has; lower it")]
    Dimensions {
        /// The value that was set.
        asked: usize,
        /// The length of the model's vectors.
        most: usize,
    },

    /// The device does not support the precision.
    #[error(
        "precision = {asked} is not for this device ({device}): f32 is for any, f16 for GPUs, bf16 for the CPU"
    )]
    Precision {
        /// The precision that was set.
        asked: crate::Precision,
        /// The device and why it was chosen.
        device: String,
    },

    /// An option is set that only another task has.
    #[error("`{option}` is not for {task}; leave it out, or set the task to {for_task}")]
    OptionOfAnotherTask {
        /// The option.
        option: &'static str,
        /// The model's task.
        task: crate::Task,
        /// The task that has this option.
        for_task: crate::Task,
    },

    /// A model can be neither fetched from the Hub nor found in the cache.
    #[error(
        "cannot fetch {model} from the Hub ({what}); check the network, or download it and set `path`"
    )]
    Hub {
        /// The step that failed, or the file that was being fetched.
        what: String,
        /// The model and its revision.
        model: String,
        /// The Hub client's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The Hub does not have the model, or refuses access to it.
    #[error(
        "{model} was not found on the Hub, or access is denied (status {status}); check its name and \
         revision, and set HF_TOKEN if it is private or gated"
    )]
    HubRefused {
        /// The model and its revision.
        model: String,
        /// The status of the Hub's response.
        status: u16,
    },

    /// A model on the Hub lacks a file that Forebay needs.
    #[error("{model} has no {file} on the Hub; {advice}")]
    NotOnHub {
        /// The model and its revision.
        model: String,
        /// The file that is missing.
        file: &'static str,
        /// The remedy.
        advice: &'static str,
    },

    /// The cache of models cannot be written.
    #[error(
        "cannot write to the cache of models, {}; set HF_HUB_CACHE to a folder that has room and that this user may \
         write to",
        cache.display()
    )]
    HubCache {
        /// The cache's directory.
        cache: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// Fetching is disabled, and the model is not in the cache.
    #[error(
        "{model} is not in the cache {}, and HF_HUB_OFFLINE forbids fetching it; unset it, or fetch the model first",
        cache.display()
    )]
    NotCached {
        /// The model and its revision.
        model: String,
        /// The cache's directory.
        cache: PathBuf,
    },

    /// The model is on the Hub, and this build does not have the feature `hub`.
    #[error(
        "cannot fetch {model}: this build has no client of the Hugging Face Hub; build with the cargo \
         feature `hub`, or download the model and set `path`"
    )]
    NoHubClient {
        /// The model and its revision.
        model: String,
    },

    /// Neither the environment nor a home directory says where the Hub's cache is.
    #[error("there is no home directory to keep models in; set HF_HOME")]
    NoHubCache,

    /// The chosen device does not exist.
    #[error("no such device as `{asked}`: {found}; {advice}")]
    NoDevice {
        /// The choice of device that was set.
        asked: String,
        /// The devices that this machine has.
        found: String,
        /// The remedy.
        advice: &'static str,
    },

    /// The device exists but could not be opened.
    #[cfg(feature = "gpu")]
    #[error("cannot open {name}")]
    OpenDevice {
        /// The adapter's name.
        name: String,
        /// The graphics API's error.
        source: WgpuInitError,
    },

    /// The device failed while the model was warmed up.
    #[error("the warm-up failed: {message}")]
    WarmUp {
        /// The device's error.
        message: String,
    },

    /// The device's results differ from the CPU's by more than rounding explains.
    #[error(
        "{device} computes wrong results in {kernels}: for {shape} they differ from the CPU's by {difference}; update its driver, or use `cpu`"
    )]
    WrongResults {
        /// The device and why it was chosen.
        device: String,
        /// The precision of the kernels, and whether they use flash attention.
        kernels: String,
        /// The shape of the batch, in words.
        shape: String,
        /// The largest difference of one number; NaN if the device gave a number that is not
        /// finite.
        difference: f32,
    },

    /// A thread could not be started.
    #[error("cannot start the thread {name:?}")]
    Thread {
        /// The thread's name.
        name: String,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The model panicked while it was built or warmed up.
    #[error("the model panicked while starting: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },

    /// A model of the user's own program could not be loaded.
    #[error("the model could not be loaded")]
    Custom(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The model's thread ended while the model was starting, without giving a reason. Also
    /// returned if a model is started on an empty list of devices.
    #[error("the model's thread ended while starting")]
    Stopped,
}

/// Returns the remedy for a file that cannot be read.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "let this user read it",
        _ => "a model directory holds config.json, tokenizer.json and model.safetensors",
    }
}

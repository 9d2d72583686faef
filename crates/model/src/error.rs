//! Why a model could not be loaded or started.

use std::path::PathBuf;

use burn::tensor::wgpu::WgpuInitError;
use safetensors::SafeTensorError;
use thiserror::Error;

/// An error from loading, placing or starting a model.
///
/// Messages are lowercase fragments that leave out the cause; walk [`source`](std::error::Error::source) to see it.
/// Failures of single requests are not errors but [`Failure`](forebay_stream::Failure)s.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the model directory is missing or unreadable.
    #[error(
        "cannot read {}; a model directory holds config.json, tokenizer.json and model.safetensors",
        path.display()
    )]
    Read {
        /// File that was asked for.
        path: PathBuf,
        /// What the operating system reported.
        source: std::io::Error,
    },

    /// A file is not valid JSON.
    #[error("invalid JSON in {}", path.display())]
    Json {
        /// File that was parsed.
        path: PathBuf,
        /// Line and column.
        source: serde_json::Error,
    },

    /// A key is missing, or its value is not what it should be.
    #[error("{} has no valid `{key}`: expected {expected}", path.display())]
    Key {
        /// File that was read.
        path: PathBuf,
        /// The key.
        key: String,
        /// What would have been accepted.
        expected: &'static str,
    },

    /// The file asks for something that this version cannot do.
    #[error("{} asks for {key} = {found}, supported: {supported}", path.display())]
    Unsupported {
        /// File that was read.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The values that would have been accepted.
        supported: String,
    },

    /// The task is neither given nor told by `config.json`.
    #[error(
        "cannot tell the task from `architectures` in {}; set the task to `text-embedding` or `text-classification`",
        path.display()
    )]
    UnknownTask {
        /// The `config.json`.
        path: PathBuf,
    },

    /// A classifier without the names of its classes.
    #[error("{} names no labels; add `id2label` with one entry for each class", path.display())]
    NoLabels {
        /// The `config.json`.
        path: PathBuf,
    },

    /// `tokenizer.json` is not a tokenizer that this version can read.
    #[error("cannot load the tokenizer {}", path.display())]
    Tokenizer {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// What the tokenizer library reported.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The tokenizer knows tokens for which the model has no embedding.
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
    #[error("cannot parse {} as safetensors", path.display())]
    Weights {
        /// The `model.safetensors`.
        path: PathBuf,
        /// What is wrong with it.
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

    /// A tensor has another shape than `config.json` says.
    #[error("tensor `{name}` in {} is {found:?}, but config.json asks for {expected:?}", path.display())]
    TensorShape {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Shape by `config.json`.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },

    /// A tensor has an element type that this version cannot read.
    #[error("tensor `{name}` in {} is {found}; convert it to F32, F16 or BF16", path.display())]
    TensorType {
        /// The `model.safetensors`.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Element type in the file.
        found: String,
    },

    /// `max_tokens` is more than the model has positions for, or too few for any text.
    #[error("max_tokens = {asked} is out of range, this model takes {least} to {most}")]
    MaxTokens {
        /// What was asked for.
        asked: usize,
        /// The fewest tokens that hold a text.
        least: usize,
        /// The model's positions.
        most: usize,
    },

    /// `dimensions` is more than the model's vectors have.
    #[error("dimensions = {asked} is more than the {most} that this model has")]
    Dimensions {
        /// What was asked for.
        asked: usize,
        /// What there is.
        most: usize,
    },

    /// The device does not compute in the precision.
    #[error(
        "precision = {asked} is not for this device ({device}): f32 is for any, f16 for GPUs, bf16 for the CPU"
    )]
    Precision {
        /// What was asked for.
        asked: crate::Precision,
        /// The device and why it was chosen.
        device: String,
    },

    /// An option that is of no use for the model's task.
    #[error("`{option}` is not for {task}; leave it out, or set the task to {for_task}")]
    OptionOfAnotherTask {
        /// The option.
        option: &'static str,
        /// What the model does.
        task: crate::Task,
        /// What the option is for.
        for_task: crate::Task,
    },

    /// A model of the Hub can be neither fetched nor found in the cache.
    #[error(
        "cannot fetch {model} from the Hub ({what}); check the network, or download it and set `path`"
    )]
    Hub {
        /// What was to be done.
        what: String,
        /// The model and its revision.
        model: String,
        /// What the client of the Hub reported.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The Hub does not give the model out, or does not have it.
    #[error(
        "the Hub has no {model}, or not for you (status {status}); check its name and revision, and set HF_TOKEN if it \
         is private or gated"
    )]
    HubRefused {
        /// The model and its revision.
        model: String,
        /// The status of the Hub's response.
        status: u16,
    },

    /// A model of the Hub is not one that can be run.
    #[error("{model} has no {file} on the Hub; another revision may have it, or another model")]
    NotOnHub {
        /// The model and its revision.
        model: String,
        /// The file that is missing.
        file: &'static str,
    },

    /// Offline, and the model is not in the cache.
    #[error("{model} is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it", cache.display())]
    NotCached {
        /// The model and its revision.
        model: String,
        /// The cache.
        cache: PathBuf,
    },

    /// Nothing tells where the Hub's cache is.
    #[error("there is no home directory to keep models in; set HF_HOME")]
    NoHubCache,

    /// The chosen device does not exist.
    #[error("no such device as `{asked}`: {found}; {advice}")]
    NoDevice {
        /// The choice that was made.
        asked: String,
        /// What there is instead.
        found: String,
        /// What to do.
        advice: &'static str,
    },

    /// The device exists but could not be opened.
    #[error("cannot open {name}")]
    OpenDevice {
        /// The adapter's name.
        name: String,
        /// What the graphics API reported.
        source: WgpuInitError,
    },

    /// The device failed while the model was warmed up.
    #[error("the warm-up failed: {message}")]
    WarmUp {
        /// What the device reported.
        message: String,
    },

    /// The device gives other numbers than the CPU.
    #[error(
        "{device} computes wrong results in {kernels}: for {shape} they differ from the CPU's by {difference}; update its driver, or use `cpu`"
    )]
    WrongResults {
        /// The device.
        device: String,
        /// In which numbers, and with which attention.
        kernels: String,
        /// The shape of the batch, in words.
        shape: String,
        /// The largest difference of one number; not a number if the device gave none.
        difference: f32,
    },

    /// The operating system gave no thread.
    #[error("cannot start the thread {name:?}")]
    Thread {
        /// The thread's name.
        name: String,
        /// What the operating system reported.
        source: std::io::Error,
    },

    /// The model panicked while it was built or warmed up.
    #[error("the model panicked while starting: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },

    /// A model of the user's own could not be loaded.
    #[error("the model could not be loaded")]
    Custom(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The model's thread ended without saying why.
    #[error("the model's thread ended while starting")]
    Stopped,
}

//! `[model.NAME]`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// A text model in the Hugging Face layout, and the device it runs on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    /// A directory with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub(crate) path: Option<Spanned<PathBuf>>,
    /// Instead of a directory, a model of the Hugging Face Hub, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub(crate) hub: Option<Spanned<String>>,
    /// The model's branch, tag or commit there.
    pub(crate) revision: Option<Spanned<String>>,
    /// `auto`, `cpu`, `gpu`, `gpu:N` or `gpu:software`.
    pub(crate) device: Option<Spanned<String>>,
    /// Instead of one device several, with a model on each.
    pub(crate) devices: Option<Spanned<Vec<Spanned<String>>>>,
    /// How many models there are on each device.
    #[serde(default = "one")]
    pub(crate) replicas: NonZeroUsize,
    /// `text-classification` or `text-embedding`; what the model's files say where it is left out.
    pub(crate) task: Option<Spanned<String>>,
    /// Most tokens of one text, special tokens counted in; what the model's files say where it is left out.
    pub(crate) max_tokens: Option<NonZeroUsize>,
    /// Threads that compute on the CPU; one for each core where it is left out.
    pub(crate) threads: Option<NonZeroUsize>,
    /// `f32` or, on a GPU, `f16`.
    pub(crate) precision: Option<Spanned<String>>,
    /// Whether a longer text is cut instead of refused.
    #[serde(default)]
    pub(crate) truncate: bool,
    /// What every text begins with.
    #[serde(default)]
    pub(crate) prompt: String,
    /// `mean`, `cls` or `max`; what the model's files say where it is left out, as with the next.
    pub(crate) pooling: Option<Spanned<String>>,
    /// Whether an embedding is scaled to length 1.
    pub(crate) normalize: Option<bool>,
    /// How many of an embedding's numbers are kept.
    pub(crate) dimensions: Option<NonZeroUsize>,
    /// How many labels are answered; the likeliest alone where it is left out.
    pub(crate) top_k: Option<NonZeroUsize>,
    /// `softmax`, `sigmoid` or `none`; what the model's files say where it is left out.
    pub(crate) scores: Option<Spanned<String>>,
}

const fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

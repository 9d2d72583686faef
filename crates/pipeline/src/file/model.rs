//! The table `[model.NAME]`.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{AtMost, Count};

/// A text model in the Hugging Face layout, and the device it runs on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    /// A directory with `config.json`, `tokenizer.json` and `model.safetensors`.
    pub(crate) path: Option<Spanned<PathBuf>>,
    /// A model on the Hugging Face Hub instead of a directory, such as
    /// `sentence-transformers/all-MiniLM-L6-v2`.
    pub(crate) hub: Option<Spanned<String>>,
    /// The branch, tag or commit on the Hub.
    pub(crate) revision: Option<Spanned<String>>,
    /// `auto`, `cpu`, `gpu`, `gpu:N` or `gpu:software`.
    pub(crate) device: Option<Spanned<String>>,
    /// Several devices instead of one, with replicas on each.
    pub(crate) devices: Option<Spanned<Vec<Spanned<String>>>>,
    /// The number of replicas on each device.
    #[serde(default = "default_replicas")]
    pub(crate) replicas: AtMost<256>,
    /// `text-classification` or `text-embedding`; by default as in the model's files.
    pub(crate) task: Option<Spanned<String>>,
    /// The most tokens in one text, including special tokens; by default as in the model's files.
    pub(crate) max_tokens: Option<Count>,
    /// The number of threads that compute on the CPU; by default one for each core.
    pub(crate) threads: Option<AtMost<1024>>,
    /// The number format on the device: `f32` or, on a GPU, `f16`.
    pub(crate) precision: Option<Spanned<String>>,
    /// Whether a text with more than `max_tokens` is cut instead of refused.
    #[serde(default)]
    pub(crate) truncate: bool,
    /// A prefix of every text; by default the model's default prompt, if its files have one.
    pub(crate) prompt: Option<String>,
    /// How the vectors of tokens become the text's vector: `mean`, `cls` or `max`; by default as in
    /// the model's files.
    pub(crate) pooling: Option<Spanned<String>>,
    /// Whether an embedding is scaled to length 1; by default as in the model's files.
    pub(crate) normalize: Option<bool>,
    /// The number of leading values of an embedding that are kept.
    pub(crate) dimensions: Option<Count>,
    /// The number of labels in an answer, beginning with the likeliest; by default one.
    pub(crate) top_k: Option<Count>,
    /// The function that makes scores from logits: `softmax`, `sigmoid` or `none`; by default as in
    /// the model's files.
    pub(crate) scores: Option<Spanned<String>>,
}

const fn default_replicas() -> AtMost<256> {
    AtMost::of(1)
}

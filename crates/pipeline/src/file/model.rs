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
    pub(crate) path: Spanned<PathBuf>,
    /// `auto`, `cpu`, `gpu`, `gpu:N` or `gpu:software`.
    pub(crate) device: Option<Spanned<String>>,
    /// `text-classification` or `text-embedding`; what the model's files say where it is left out.
    pub(crate) task: Option<Spanned<String>>,
    /// Most tokens of one text, special tokens counted in; what the model's files say where it is left out.
    pub(crate) max_tokens: Option<NonZeroUsize>,
    /// Threads that compute on the CPU; one for each core where it is left out.
    pub(crate) threads: Option<NonZeroUsize>,
    /// Whether a longer text is cut instead of refused.
    #[serde(default)]
    pub(crate) truncate: bool,
}

//! The files of a model on the Hub that Forebay needs.

use std::path::Path;

use crate::checkpoint::{INDEX, WEIGHTS, shards};
use crate::text::ENCODER_FILES;

/// Files that change a model's answers, and that some models do not have, beside the settings of
/// sentence-transformers for its encoder.
const OPTIONAL: [&str; 6] = [
    "adapter_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
];
const CONFIG: &str = "config.json";
/// The tokenizer, or the vocabulary from which it can be made.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];

/// Returns the files to fetch of those that a model has, or the required file that it lacks.
pub(super) fn wanted<'a>(all: &[&'a str]) -> Result<Vec<&'a str>, &'static str> {
    let has = |name: &str| all.iter().any(|file| *file == name || is_encoder_file(file, name));
    if !has(CONFIG) {
        return Err(CONFIG);
    }
    if !TOKENIZERS.iter().any(|name| has(name)) {
        return Err(TOKENIZERS[0]);
    }
    if !has(WEIGHTS) && !has(INDEX) {
        return Err(WEIGHTS);
    }
    let is_wanted = |file: &str| {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let in_place = folder.is_empty() || is_module_folder(folder);
        // The vocabulary is not needed if there is a tokenizer, and neither are the parts of the
        // weights if there is a file with all.
        let weights =
            name == WEIGHTS || !has(WEIGHTS) && (name == INDEX || is_shard(name)) && in_place;
        let tokenizer = name == TOKENIZERS[0] || name == TOKENIZERS[1] && !has(TOKENIZERS[0]);
        in_place
            && (name == CONFIG || optional().any(|known| known == name) || weights || tokenizer)
    };
    Ok(all.iter().copied().filter(|file| is_wanted(file)).collect())
}

/// The content of a model's directory in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A required file is missing.
    Unusable,
    /// The required files are there. Other programs, which fetch only the files that they need, may
    /// have left out others.
    Usable,
    /// All files are there that the model has.
    Complete,
}

impl Content {
    /// Returns the content of `directory`. `is_absent` returns whether the model on the Hub is known
    /// not to have a file.
    pub(super) fn of(directory: &Path, is_absent: impl Fn(&str) -> bool) -> Self {
        let has = |name: &str| directory.join(name).is_file();
        let usable = has(CONFIG)
            && TOKENIZERS.iter().any(|name| has(name))
            && (has(WEIGHTS)
                || shards(directory).is_some_and(|shards| shards.iter().all(|name| has(name))));
        let complete = || optional().all(|name| has(name) || is_absent(name));
        match usable {
            false => Self::Unusable,
            true if complete() => Self::Complete,
            true => Self::Usable,
        }
    }
}

/// Returns the optional files that a model with these files does not have.
pub(super) fn absent(all: &[&str]) -> impl Iterator<Item = &'static str> {
    optional().filter(|name| !all.contains(name))
}

fn optional() -> impl Iterator<Item = &'static str> {
    OPTIONAL.into_iter().chain(ENCODER_FILES)
}

/// Returns whether `file` is the file `name` of an encoder that has its own folder.
fn is_encoder_file(file: &str, name: &str) -> bool {
    file.split_once('/').is_some_and(|(folder, rest)| folder.starts_with("0_") && rest == name)
}

/// Returns whether a folder may be that of a module of sentence-transformers, such as `1_Pooling`.
fn is_module_folder(folder: &str) -> bool {
    let number = folder.split('_').next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && folder.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_shard(name: &str) -> bool {
    name.starts_with("model-") && name.ends_with(".safetensors") && !name.contains("..")
}

//! `Modules`: the modules of sentence-transformers that `modules.json` lists. Each one computes from
//! the result of the one before it.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::Error;
use crate::checkpoint::JsonFile;

/// The modules of a model, in their order: an encoder, a pooling, and layers for the pooled vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modules {
    /// Whether the model has a `modules.json`.
    pub(super) listed: bool,
    /// The folder of the encoder's files; empty if they are beside `modules.json`.
    pub(super) encoder: String,
    /// The folder of the pooling's settings.
    pub(super) pooling: Option<String>,
    /// The modules after the pooling.
    pub(super) after: Vec<After>,
}

/// A module after the pooling, with its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    Dense(String),
    Normalize(String),
}

/// The modules that are supported, in the order in which a model may have them.
const SUPPORTED: &str =
    "Transformer, Pooling, Dense, Normalize of sentence_transformers, in this order";

impl Modules {
    /// Reads `modules.json`. A model without this file has an encoder only.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let Some(file) = JsonFile::read_if_there(&directory.join("modules.json"))? else {
            return Ok(Self::default());
        };
        let modules = file.value().as_array().ok_or_else(|| file.bad("modules", "a list"))?;
        let mut found = Self { listed: true, ..Self::default() };
        for (place, module) in modules.iter().enumerate() {
            let text = |key| module.get(key).and_then(Value::as_str).unwrap_or_default();
            let class = text("type");
            let folder = text("path").to_owned();
            if !is_inside(&folder) {
                return Err(file.unsupported("path", &folder, "a folder of the model"));
            }
            let (package, name) = class.rsplit_once('.').unwrap_or(("", class));
            let is_known = package.split('.').next() == Some("sentence_transformers");
            match name {
                "Transformer" | "BERT" | "RoBERTa" | "DistilBERT" | "CamemBERT" | "XLMRoBERTa"
                    if is_known && place == 0 =>
                {
                    found.encoder = folder;
                }
                "Pooling" if is_known && place == 1 => found.pooling = Some(folder),
                "Dense" if is_known && found.pooling.is_some() => {
                    found.after.push(After::Dense(folder));
                }
                "Normalize" if is_known && place > 0 => found.after.push(After::Normalize(folder)),
                _ => return Err(file.unsupported("type", class, SUPPORTED)),
            }
        }
        Ok(found)
    }

    /// Returns the directory of the encoder's files.
    pub(super) fn encoder_directory(&self, directory: &Path) -> PathBuf {
        match self.encoder.as_str() {
            "" => directory.to_owned(),
            folder => directory.join(folder),
        }
    }

    /// Returns whether the vector is scaled to length 1 after all other modules.
    pub(super) fn end_normalized(&self) -> bool {
        matches!(self.after.last(), Some(After::Normalize(_)))
    }
}

/// Returns whether a path leads to the directory that it starts from, or into it.
fn is_inside(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

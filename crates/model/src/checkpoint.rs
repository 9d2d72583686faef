//! Reading a model's files: a directory in the Hugging Face layout. docs/models.md lists the files
//! and the settings in them that are applied.

mod bytes;
mod files;
mod json;
mod unused;
mod weights;

pub(crate) use bytes::read_text;
pub(crate) use files::WEIGHTS;
pub use files::WeightFiles;
#[cfg(feature = "hub")]
pub(crate) use files::{INDEX, shards};
pub use json::JsonFile;
pub(crate) use unused::Expected;
pub use weights::Weights;

//! Reading a model's files: a directory in the Hugging Face layout.
//!
//! ```text
//! config.json                 architecture, sizes, labels
//! tokenizer.json              the tokenizer
//! model.safetensors           weights: F32, F16 or BF16
//! tokenizer_config.json       optional: model_max_length
//! sentence_bert_config.json   optional: max_seq_length
//! modules.json, 1_Pooling/    optional: pooling and normalisation of sentence-transformers
//! ```

mod json;
mod weights;

pub use json::JsonFile;
pub(crate) use json::without_byte_order_mark;
pub use weights::{Weights, read};

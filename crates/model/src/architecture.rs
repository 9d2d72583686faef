//! The architectures that `config.json` may name in `model_type`, one file each.

mod bert;
mod distilbert;
mod electra;
mod roberta;
mod settings;

use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::{Activation, EncoderConfig, HeadConfig, LayerNames, TensorNames};

/// A member of the BERT family, as described by its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The value of `model_type`.
    pub model_type: &'static str,
    /// Sizes of the encoder.
    pub encoder: EncoderConfig,
    /// Names of the encoder's tensors.
    pub names: TensorNames,
    /// The classification head. Only models that are classifiers have its tensors.
    pub head: HeadConfig,
}

pub(crate) use settings::unknown as unknown_settings;

type Describe = fn(&JsonFile) -> Result<Architecture, Error>;

/// Each supported `model_type`, with the function that reads its `config.json`.
const SUPPORTED: [(&str, Describe); 6] = [
    ("bert", bert::describe),
    ("camembert", roberta::describe_camembert),
    ("distilbert", distilbert::describe),
    ("electra", electra::describe),
    ("roberta", roberta::describe_roberta),
    ("xlm-roberta", roberta::describe_xlm_roberta),
];

impl Architecture {
    /// Reads `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for another `model_type` or a setting that the encoder does not
    /// support, [`Error::Key`] for a missing size.
    pub fn from_config(config: &JsonFile) -> Result<Self, Error> {
        let model_type = config.text_or("model_type", "")?;
        let (_, describe) =
            SUPPORTED.iter().find(|(name, _)| *name == model_type).ok_or_else(|| {
                let supported = SUPPORTED.map(|(name, _)| name).join(", ");
                config.unsupported("model_type", model_type, supported)
            })?;
        settings::check(config)?;
        let found = describe(config)?;
        if !found.encoder.hidden.is_multiple_of(found.encoder.heads) {
            return Err(config.bad("hidden size", "a multiple of the number of attention heads"));
        }
        if found.encoder.positions <= found.encoder.first_position {
            return Err(config.bad("max_position_embeddings", "room for at least one token"));
        }
        Ok(found)
    }
}

/// Tensor names of BERT's layers. Most architectures that are derived from BERT use them too.
const BERT_LAYER: LayerNames = LayerNames {
    query_key_value: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    feed_forward: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

/// Reads an encoder's sizes from a `config.json` that has the same keys as BERT's.
fn bert_sizes(config: &JsonFile) -> Result<EncoderConfig, Error> {
    let hidden = config.size("hidden_size")?;
    Ok(EncoderConfig {
        vocabulary: config.size("vocab_size")?,
        positions: config.size("max_position_embeddings")?,
        first_position: 0,
        token_types: config.size("type_vocab_size")?,
        embedding: hidden,
        hidden,
        feed_forward: config.size("intermediate_size")?,
        heads: config.size("num_attention_heads")?,
        layers: config.size("num_hidden_layers")?,
        norm_epsilon: config.number_or("layer_norm_eps", 1e-12)?,
        activation: activation(config, "hidden_act", "gelu")?,
    })
}

fn activation(config: &JsonFile, key: &str, default: &str) -> Result<Activation, Error> {
    let name = config.text_or(key, default)?;
    Activation::named(name)
        .ok_or_else(|| config.unsupported(key, name, "gelu, gelu_new, relu, tanh"))
}

#[cfg(test)]
mod tests;

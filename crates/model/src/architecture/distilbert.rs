//! `DistilBERT` (Sanh et al., 2019): BERT without token types and with different tensor names.

use super::{Architecture, activation};
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::{Activation, EncoderConfig, HeadConfig, LayerNames, TensorNames};

pub(super) fn describe(config: &JsonFile) -> Result<Architecture, Error> {
    let hidden = config.size("dim")?;
    Ok(Architecture {
        model_type: "distilbert",
        encoder: EncoderConfig {
            vocabulary: config.size("vocab_size")?,
            positions: config.size("max_position_embeddings")?,
            first_position: 0,
            token_types: 0,
            embedding: hidden,
            hidden,
            feed_forward: config.size("hidden_dim")?,
            heads: config.size("n_heads")?,
            layers: config.size("n_layers")?,
            norm_epsilon: 1e-12,
            activation: activation(config, "activation", "gelu")?,
        },
        names: TensorNames {
            prefix: "distilbert.",
            layers: "transformer.layer",
            layer: LayerNames {
                query_key_value: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
                attention_output: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                feed_forward: "ffn.lin1",
                output: "ffn.lin2",
                output_norm: "output_layer_norm",
            },
        },
        head: HeadConfig {
            dense: "pre_classifier",
            dense_in_encoder: false,
            output: "classifier",
            activation: Activation::Relu,
        },
    })
}

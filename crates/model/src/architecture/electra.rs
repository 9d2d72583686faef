//! ELECTRA (Clark et al., 2020): BERT with narrower embeddings, which a projection widens.

use super::{Architecture, BERT_LAYER, bert_sizes};
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::{Activation, EncoderConfig, HeadConfig, TensorNames};

pub(super) fn describe(config: &JsonFile) -> Result<Architecture, Error> {
    Ok(Architecture {
        model_type: "electra",
        encoder: EncoderConfig { embedding: config.size("embedding_size")?, ..bert_sizes(config)? },
        names: TensorNames { prefix: "electra.", layers: "encoder.layer", layer: BERT_LAYER },
        head: HeadConfig {
            dense: "classifier.dense",
            dense_in_encoder: false,
            output: "classifier.out_proj",
            activation: Activation::Gelu,
        },
    })
}

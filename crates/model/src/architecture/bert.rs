//! BERT (Devlin et al., 2018), the architecture of `MiniLM` and most sentence-transformers.

use super::{Architecture, BERT_LAYER, bert_sizes};
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::{Activation, HeadConfig, TensorNames};

pub(super) fn describe(config: &JsonFile) -> Result<Architecture, Error> {
    Ok(Architecture {
        model_type: "bert",
        encoder: bert_sizes(config)?,
        names: TensorNames { prefix: "bert.", layers: "encoder.layer", layer: BERT_LAYER },
        head: HeadConfig {
            dense: "pooler.dense",
            dense_in_encoder: true,
            output: "classifier",
            activation: Activation::Tanh,
        },
    })
}

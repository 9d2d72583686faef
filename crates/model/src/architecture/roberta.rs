//! `RoBERTa` (Liu et al., 2019): BERT whose first position is the padding token's id plus 1.
//!
//! XLM-RoBERTa (Conneau et al., 2019) and `CamemBERT` (Martin et al., 2019) are the same encoder, with
//! other tokenizers and vocabularies.

use super::{Architecture, BERT_LAYER, bert_sizes};
use crate::Error;
use crate::checkpoint::JsonFile;
use crate::encoder::{Activation, EncoderConfig, HeadConfig, TensorNames};

pub(super) fn describe_roberta(config: &JsonFile) -> Result<Architecture, Error> {
    describe(config, "roberta")
}

pub(super) fn describe_camembert(config: &JsonFile) -> Result<Architecture, Error> {
    describe(config, "camembert")
}

pub(super) fn describe_xlm_roberta(config: &JsonFile) -> Result<Architecture, Error> {
    describe(config, "xlm-roberta")
}

fn describe(config: &JsonFile, model_type: &'static str) -> Result<Architecture, Error> {
    // If `config.json` leaves out the padding token's id, it is 1, as in every published model.
    let padding = config.get("pad_token_id").map_or(Some(1), serde_json::Value::as_u64);
    let first_position = padding
        .and_then(|id| usize::try_from(id.checked_add(1)?).ok())
        .ok_or_else(|| config.bad("pad_token_id", "a token id"))?;
    Ok(Architecture {
        model_type,
        encoder: EncoderConfig { first_position, ..bert_sizes(config)? },
        names: TensorNames { prefix: "roberta.", layers: "encoder.layer", layer: BERT_LAYER },
        head: HeadConfig {
            dense: "classifier.dense",
            dense_in_encoder: false,
            output: "classifier.out_proj",
            activation: Activation::Tanh,
        },
    })
}

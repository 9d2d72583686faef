//! The settings of `config.json` that change an encoder's results without being one of its sizes.

use serde_json::Value;

use crate::Error;
use crate::checkpoint::JsonFile;

/// Settings that would make another encoder of the model if they were on.
const OFF: [&str; 4] =
    ["add_cross_attention", "cross_attention_hidden_size", "is_decoder", "is_encoder_decoder"];
/// Settings that describe changes of the weights, which are not made here.
const EMPTY: [(&str, &str); 2] = [
    ("pruned_heads", "weights without pruned heads"),
    ("quantization_config", "weights in f32, f16 or bf16"),
];

/// Refuses the settings with which the encoder's results would be others.
pub(super) fn check(config: &JsonFile) -> Result<(), Error> {
    let positions = config.text_or("position_embedding_type", "absolute")?;
    if positions != "absolute" {
        return Err(config.unsupported("position_embedding_type", positions, "absolute"));
    }
    for (key, value) in config.settings() {
        if OFF.contains(&key) {
            return Err(config.unsupported(key, &value.to_string(), "false"));
        }
        if let Some((_, supported)) = EMPTY.iter().find(|(name, _)| *name == key) {
            return Err(config.unsupported(key, &value.to_string(), *supported));
        }
    }
    let epsilon = config.number_or("layer_norm_eps", 1e-12)?;
    if !(0.0..1.0).contains(&epsilon) {
        return Err(config.bad("layer_norm_eps", "a number from 0 to 1"));
    }
    Ok(())
}

/// Returns a warning that names the settings which are not applied because they are not known.
///
/// The models of the Hub have many settings with a name of their own. Most of them describe the
/// training, but some change the encoder.
pub(crate) fn unknown(config: &JsonFile) -> Option<String> {
    let is_known = |key: &str| KNOWN.contains(&key) || key.starts_with('_');
    let unknown: Vec<_> = config
        .settings()
        .filter(|(key, _)| !is_known(key))
        .map(|(key, value)| match value {
            Value::Array(_) | Value::Object(_) => format!("`{key}`"),
            value => format!("`{key}` = {value}"),
        })
        .collect();
    let path = config.path().display();
    (!unknown.is_empty()).then(|| {
        format!(
            "{path} has settings that are not applied, so the answers may not be the model's: {}",
            unknown.join(", ")
        )
    })
}

/// Settings that are applied, and settings that do not change the answers: those of the training,
/// of text generation, and of the library transformers itself.
const KNOWN: [&str; 106] = [
    "activation",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "dim",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embedding_size",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "function_to_apply",
    "generator_hidden_size",
    "generator_size",
    "gradient_checkpointing",
    "hidden_act",
    "hidden_dim",
    "hidden_dropout_prob",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "is_decoder",
    "is_encoder_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "language",
    "layer_norm_eps",
    "length_penalty",
    "max_length",
    "max_position_embeddings",
    "min_length",
    "model_name",
    "model_type",
    "n_heads",
    "n_layers",
    "no_repeat_ngram_size",
    "num_attention_heads",
    "num_beam_groups",
    "num_beams",
    "num_hidden_layers",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "position_embedding_type",
    "prefix",
    "problem_type",
    "pruned_heads",
    "qa_dropout",
    "quantization_config",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "sep_token_id",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "summary_activation",
    "summary_last_dropout",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_weights_",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "type_vocab_size",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "vocab_size",
];

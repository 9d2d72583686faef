use serde_json::{Value, json};

use super::Architecture;
use crate::Error;
use crate::checkpoint::JsonFile;

fn bert() -> Value {
    json!({
        "model_type": "bert", "hidden_size": 8, "vocab_size": 9, "max_position_embeddings": 16,
        "type_vocab_size": 2, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
    })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn read(config: &Value) -> Result<Architecture, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    Architecture::from_config(&JsonFile::read(&path).unwrap())
}

fn error(config: &Value) -> String {
    read(config).unwrap_err().to_string()
}

#[test]
fn the_error_for_an_unknown_architecture_lists_the_supported_ones() {
    let message = error(&with(bert(), "model_type", json!("llama")));
    assert!(message.contains("config.json asks for model_type = llama"), "{message}");
    assert!(
        message.ends_with("supported: bert, camembert, distilbert, electra, roberta, xlm-roberta"),
        "{message}"
    );
}

#[test]
fn the_error_for_a_missing_or_invalid_size_names_its_key() {
    for wrong in [json!(null), json!(0), json!(-1), json!("8"), json!(1.5)] {
        let message = error(&with(bert(), "hidden_size", wrong));
        assert!(
            message.ends_with("no valid `hidden_size`: expected a positive integer"),
            "{message}"
        );
    }
}

#[test]
fn unsupported_settings_are_refused() {
    let message = error(&with(bert(), "hidden_act", json!("swish")));
    assert!(message.contains("hidden_act = swish, supported: gelu"), "{message}");
    let message = error(&with(bert(), "position_embedding_type", json!("relative_key")));
    assert!(message.contains("position_embedding_type = relative_key"), "{message}");
    let message = error(&with(bert(), "num_attention_heads", json!(3)));
    assert!(message.contains("a multiple of the number of attention heads"), "{message}");
}

#[test]
fn positions_of_roberta_start_after_the_padding_token() {
    let roberta = with(bert(), "model_type", json!("roberta"));
    let found = read(&with(roberta.clone(), "pad_token_id", json!(1))).unwrap();
    assert_eq!((found.encoder.first_position, found.encoder.max_tokens()), (2, 14));
    let message = error(&with(roberta, "pad_token_id", json!("<pad>")));
    assert!(message.contains("`pad_token_id`"), "{message}");
}

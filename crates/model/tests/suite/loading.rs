//! Tests of loading model directories, mostly of the errors about directories that are not valid.

use std::fs;
use std::num::NonZeroUsize;

use forebay_model::{Task, TextModel, TextModelOptions};
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::common::{convert, copy, error_message, error_message_for, options, with};

#[test]
fn the_error_for_a_missing_file_names_it() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let directory = copy();
        fs::remove_file(directory.path().join(file)).unwrap();
        let message = error_message(&directory);
        assert!(
            message.starts_with(&format!("cannot read {file}; a model directory holds")),
            "{message}"
        );
        assert!(message.contains("No such file"), "{message}");
    }
}

#[test]
fn the_error_for_invalid_json_names_the_file_and_the_line() {
    let directory = copy();
    fs::write(directory.path().join("config.json"), "{\n  \"model_type\": bert\n}").unwrap();
    let message = error_message(&directory);
    assert_eq!(
        message,
        "invalid JSON in config.json; correct it, or fetch the model again: expected value at line 2 column 17"
    );
    let directory = copy();
    fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
    let message = error_message(&directory);
    let start =
        "cannot load the tokenizer tokenizer.json; it may be damaged: fetch the model again: ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_json_file_is_skipped() {
    let directory = copy();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("\u{feff}{text}")).unwrap();
    }
    TextModel::load(&options(&directory)).unwrap();
}

#[test]
fn the_error_for_an_unknown_architecture_names_it() {
    let message =
        error_message(&with("config.json", |config| config["model_type"] = json!("gpt2")));
    assert_eq!(
        message,
        "config.json asks for model_type = gpt2, supported: bert, camembert, distilbert, electra, roberta, xlm-roberta"
    );
}

#[test]
fn the_error_for_a_missing_or_wrong_tensor_names_it() {
    let message =
        error_message(&with("config.json", |config| config["num_hidden_layers"] = json!(3)));
    assert!(
        message.contains("no tensor `bert.encoder.layer.2.attention.self.query.weight`"),
        "{message}"
    );
    let message =
        error_message(&with("config.json", |config| config["intermediate_size"] = json!(97)));
    assert_eq!(
        message,
        "tensor `bert.encoder.layer.0.intermediate.dense.weight` in model.safetensors is [96, 32], but config.json \
         asks for [97, 32]; correct config.json, or take the weights that belong to it"
    );
}

#[test]
fn the_error_for_a_damaged_weights_file_names_it() {
    let directory = copy();
    fs::write(directory.path().join("model.safetensors"), b"not a safetensors file").unwrap();
    let message = error_message(&directory);
    let start = "cannot parse model.safetensors as safetensors; fetch the model again: ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_vocabulary_larger_than_the_embedding_is_refused() {
    let directory = with("tokenizer.json", |json| json["model"]["vocab"]["surplus"] = json!(179));
    assert_eq!(
        error_message(&directory),
        "tokenizer.json yields token ids up to 179, but the model embeds 179 tokens; tokenizer and weights belong \
         to different models"
    );
}

#[test]
fn a_task_that_cannot_be_inferred_must_be_set() {
    let masked = json!(["BertForMaskedLM"]);
    let directory = with("config.json", |config| config["architectures"] = masked);
    let message = error_message(&directory);
    assert!(
        message.contains("set the task to `text-embedding` or `text-classification`"),
        "{message}"
    );
    let task = Some(Task::TextEmbedding);
    let model = TextModel::load(&TextModelOptions { task, ..options(&directory) }).unwrap();
    assert_eq!(model.task(), Task::TextEmbedding);
    let inferred = TextModel::load(&options(&copy())).unwrap();
    assert_eq!(inferred.task(), Task::TextClassification);
}

#[test]
fn the_token_limit_comes_from_the_files_unless_it_is_set() {
    let directory = copy();
    assert_eq!(TextModel::load(&options(&directory)).unwrap().max_tokens(), 64);
    fs::write(directory.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 32}"#)
        .unwrap();
    assert_eq!(TextModel::load(&options(&directory)).unwrap().max_tokens(), 32);
    let max_tokens = NonZeroUsize::new(48);
    let longer = TextModelOptions { max_tokens, ..options(&directory) };
    assert_eq!(TextModel::load(&longer).unwrap().max_tokens(), 48);
    for asked in [2, 65] {
        let max_tokens = NonZeroUsize::new(asked);
        let message = error_message_for(&TextModelOptions { max_tokens, ..options(&directory) });
        assert_eq!(
            message,
            format!("max_tokens = {asked} is out of range, this model takes 3 to 64")
        );
    }
}

#[test]
fn truncation_and_padding_in_the_tokenizer_file_are_ignored() {
    let directory = with("tokenizer.json", |json| {
        json["truncation"] =
            json!({"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        json["padding"] = json!({
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        });
    });
    let model = TextModel::load(&options(&directory)).unwrap();
    assert_eq!(model.tokenize("boring").unwrap().ids().len(), 3);
    assert_eq!(model.tokenize(&"boring ".repeat(10)).unwrap().ids().len(), 12);
}

#[test]
fn weights_in_other_formats_than_f32_f16_and_bf16_are_refused() {
    let f16 = copy();
    convert(&f16, Dtype::F16, |value| half::f16::from_f32(value).to_le_bytes().to_vec());
    TextModel::load(&options(&f16)).unwrap();
    let bf16 = copy();
    convert(&bf16, Dtype::BF16, |value| half::bf16::from_f32(value).to_le_bytes().to_vec());
    TextModel::load(&options(&bf16)).unwrap();
    let f64 = copy();
    convert(&f64, Dtype::F64, |value| f64::from(value).to_le_bytes().to_vec());
    let message = error_message(&f64);
    assert!(
        message.ends_with("model.safetensors is F64; convert it to F32, F16 or BF16"),
        "{message}"
    );
}

//! No `config.json` makes the load of a model panic, abort or reserve memory for tensors that are
//! not there.

use std::fs;

use forebay_model::{Task, TextModel, TextModelOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::common::{
    copy_of, edit, error_message, error_message_for, options, reference, with, write,
};

/// Models with their keys of numbers and of other settings.
const MODELS: [&str; 5] = [
    "tiny-bert-classifier",
    "tiny-roberta-classifier",
    "tiny-distilbert-classifier",
    "tiny-electra-classifier",
    "tiny-camembert-classifier",
];
const KEYS: [&str; 25] = [
    "architectures",
    "dim",
    "embedding_size",
    "hidden_act",
    "hidden_dim",
    "hidden_size",
    "id2label",
    "intermediate_size",
    "is_decoder",
    "label2id",
    "layer_norm_eps",
    "max_position_embeddings",
    "model_type",
    "n_heads",
    "n_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_labels",
    "pad_token_id",
    "position_embedding_type",
    "problem_type",
    "pruned_heads",
    "sentence_transformers",
    "type_vocab_size",
    "vocab_size",
];

fn values() -> impl Strategy<Value = Value> {
    let numbers = select(vec![
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(31),
        json!(33),
        json!(64),
        json!(-1),
        json!(0.5),
        json!(1e-300),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(10_000_000_000_u64),
        json!(1_000_000_000_000_u64),
        json!(1_u64 << 32),
        json!((1_u64 << 62) + 1),
    ]);
    let others = select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!("bert"),
        json!("roberta"),
        json!("gelu"),
        json!([]),
        json!({}),
        json!([1, [2]]),
        json!({"0": "a", "1": "b"}),
        json!({"0": {"1": []}}),
        json!(["a", "b"]),
        json!(["BertModel"]),
        json!(["BertForSequenceClassification"]),
    ]);
    prop_oneof![3 => numbers, 2 => others, 1 => any::<u64>().prop_map(|number| json!(number)), 1 => ".{0,8}".prop_map(|text| json!(text))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_config_is_loaded_or_refused_b6(
        model in select(MODELS.to_vec()),
        changes in vec((select(KEYS.to_vec()), values()), 1..4),
        truncate: bool,
    ) {
        let directory = copy_of(model);
        edit(&directory, "config.json", |config| {
            for (key, value) in changes {
                config[key] = value;
            }
        });
        let threads = std::num::NonZeroUsize::new(1);
        let options = TextModelOptions { truncate, threads, ..options(&directory) };
        if let Ok(mut model) = TextModel::load(&options) {
            prop_assert!(model.answer(&["not so boring", ""]).is_ok());
        }
    }
}

/// Files of settings, with their keys.
const SETTINGS: [(&str, &[&str]); 7] = [
    (
        "tokenizer_config.json",
        &[
            "added_tokens_decoder",
            "additional_special_tokens",
            "add_prefix_space",
            "cls_token",
            "do_lower_case",
            "extra_special_tokens",
            "mask_token",
            "model_max_length",
            "split_special_tokens",
            "strip_accents",
            "tokenizer_class",
            "truncation_side",
            "unk_token",
        ],
    ),
    ("special_tokens_map.json", &["additional_special_tokens", "pad_token", "sep_token"]),
    (
        "sentence_bert_config.json",
        &["do_lower_case", "max_seq_length", "modality_config", "tokenizer_args"],
    ),
    (
        "config_sentence_transformers.json",
        &["default_prompt_name", "model_type", "prompts", "truncate_dim"],
    ),
    ("1_Pooling/config.json", &["include_prompt", "pooling_mode", "pooling_mode_max_tokens"]),
    ("2_Dense/config.json", &["activation_function", "bias", "in_features", "out_features"]),
    ("model.safetensors.index.json", &["metadata", "weight_map"]),
];

fn settings() -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    let all = SETTINGS.iter().flat_map(|(file, keys)| keys.iter().map(|key| (*file, *key)));
    (select(all.collect::<Vec<_>>()), values()).prop_map(|((file, key), value)| (file, key, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changed_settings_are_applied_or_refused_b6(
        model in select(MODELS.to_vec()),
        changes in vec(settings(), 1..5),
        class in select(vec!["BertTokenizer", "TokenizersBackend"]),
        classifies: bool,
        truncate: bool,
    ) {
        let directory = copy_of(model);
        let modules = ["Transformer", "Pooling", "Dense", "Normalize"].iter().enumerate();
        let modules: Value = modules
            .map(|(place, class)| {
                let folder = if place == 0 { String::new() } else { format!("{place}_{class}") };
                json!({"path": folder, "type": format!("sentence_transformers.models.{class}")})
            })
            .collect();
        write(&directory, "modules.json", modules.to_string());
        let dense = fs::read(reference("dense/32-16.safetensors")).unwrap();
        write(&directory, "2_Dense/model.safetensors", dense);
        for (file, _) in &SETTINGS[1..5] {
            write(&directory, file, "{}");
        }
        let dense = json!({"in_features": 32, "out_features": 16});
        write(&directory, "2_Dense/config.json", dense.to_string());
        if changes.iter().any(|(file, ..)| *file == "model.safetensors.index.json") {
            let whole = directory.path().join("model.safetensors");
            fs::rename(whole, directory.path().join("model-1.safetensors")).unwrap();
            let index = json!({"weight_map": {"a": "model-1.safetensors"}});
            write(&directory, "model.safetensors.index.json", index.to_string());
        }
        edit(&directory, "tokenizer_config.json", |json| json["tokenizer_class"] = json!(class));
        for (file, key, value) in changes {
            edit(&directory, file, |json| json[key] = value);
        }
        let task = if classifies { Task::TextClassification } else { Task::TextEmbedding };
        let threads = std::num::NonZeroUsize::new(1);
        let options = TextModelOptions { truncate, threads, task: Some(task), ..options(&directory) };
        if let Ok(mut model) = TextModel::load(&options) {
            prop_assert!(model.answer(&["not so boring", ""]).is_ok());
        }
    }
}

#[test]
fn the_error_for_an_absurd_size_has_both_shapes_b6() {
    let huge = 10_000_000_000_u64;
    for (key, size, message) in [
        (
            "intermediate_size",
            huge,
            "intermediate.dense.weight` in model.safetensors is [96, 32], but config.json asks for [10000000000, 32]",
        ),
        (
            "hidden_size",
            1_000_000_000_000,
            "embeddings.weight` in model.safetensors is [2, 32], but config.json asks for [2, 1000000000000]",
        ),
        ("hidden_size", 1 << 62, "is [2, 32], but config.json asks for [2, 4611686018427387904]"),
        (
            "vocab_size",
            u64::MAX,
            "is [179, 32], but config.json asks for [18446744073709551615, 32]",
        ),
        (
            "max_position_embeddings",
            huge,
            "position_embeddings.weight` in model.safetensors is [64, 32]",
        ),
        ("type_vocab_size", huge, "token_type_embeddings.weight` in model.safetensors is [2, 32]"),
        ("num_hidden_layers", huge, "no tensor `bert.encoder.layer.2."),
    ] {
        let found = error_message(&with("config.json", |config| {
            config[key] = json!(size);
            config["architectures"] = json!(["BertModel"]);
        }));
        assert!(found.contains(message), "{found}");
    }
    let message =
        error_message(&with("config.json", |config| config["num_attention_heads"] = json!(huge)));
    assert!(message.contains("a multiple of the number of attention heads"), "{message}");
}

#[test]
fn too_few_positions_for_the_special_tokens_are_refused_b6() {
    for positions in [1, 2] {
        let directory =
            with("config.json", |config| config["max_position_embeddings"] = json!(positions));
        for truncate in [false, true] {
            let message = error_message_for(&TextModelOptions { truncate, ..options(&directory) });
            assert!(
                message.contains("no valid `max_position_embeddings`: expected room for the"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_padding_token_beyond_every_number_is_refused_b6() {
    for id in [json!(u64::MAX), json!(-1), json!(1_000_000)] {
        let directory = copy_of("tiny-roberta-classifier");
        edit(&directory, "config.json", |config| config["pad_token_id"] = id);
        let message = error_message(&directory);
        assert!(
            message.contains("`pad_token_id`") || message.contains("`max_position_embeddings`"),
            "{message}"
        );
    }
}

//! Compares vectors with those of the library sentence-transformers, for the settings and modules
//! in a model's files.

use std::fs;

use forebay_model::{
    DeviceChoice, EmbeddingOptions, Model as _, Task, TextModel, TextModelOptions, TextOutput,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::common::{self, copy, edit, error_message_for, options, write};

/// The contents of `tests/reference/sentence.json`, which `sentence.py` writes.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    files: Map<String, Value>,
    /// Keys that replace those of a file.
    keys: Map<String, Value>,
    /// Files of weights, and their places among the reference values.
    copy: Map<String, Value>,
    vectors: Vec<Vec<f32>>,
}

fn expected() -> Expected {
    serde_json::from_str(&fs::read_to_string(common::reference("sentence.json")).unwrap()).unwrap()
}

impl Case {
    fn directory(&self) -> TempDir {
        let directory = copy();
        for (file, content) in &self.files {
            write(&directory, file, content.to_string());
        }
        for (file, keys) in &self.keys {
            edit(&directory, file, |json| {
                json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            });
        }
        for (file, source) in &self.copy {
            let bytes = fs::read(common::reference(source.as_str().unwrap())).unwrap();
            write(&directory, file, bytes);
        }
        directory
    }

    fn agrees_on(&self, texts: &[String], device: DeviceChoice) {
        let directory = self.directory();
        let options = TextModelOptions { device, truncate: true, ..embedder(&directory) };
        let mut model = TextModel::load(&options).unwrap();
        for (output, expected) in model.answer(texts).unwrap().into_iter().zip(&self.vectors) {
            let Ok(TextOutput::Embedding { embedding }) = output else { panic!("{output:?}") };
            assert_eq!(embedding.len(), expected.len(), "{}", self.name);
            let differences = embedding.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let most = differences.fold(0.0, f32::max);
            assert!(most < 1e-4, "off by {most} with {} on {device}", self.name);
        }
    }
}

fn embedder(directory: &TempDir) -> TextModelOptions {
    TextModelOptions { task: Some(Task::TextEmbedding), ..options(directory) }
}

fn refused(files: &[(&str, Value)]) -> String {
    let directory = copy();
    for (file, content) in files {
        write(&directory, file, content.to_string());
    }
    error_message_for(&embedder(&directory))
}

#[test]
fn vectors_with_every_setting_and_module_agree_with_sentence_transformers_a5_a6_b3() {
    let Expected { texts, cases } = expected();
    for case in cases {
        case.agrees_on(&texts, DeviceChoice::Cpu);
    }
}

#[test]
fn dense_layers_agree_with_sentence_transformers_on_a_software_gpu_a6() {
    if common::devices().contains(&DeviceChoice::Software) {
        let Expected { texts, cases } = expected();
        for case in cases.iter().filter(|case| case.name.contains("dense")) {
            case.agrees_on(&texts, DeviceChoice::Software);
        }
    }
}

#[test]
fn the_users_prompt_takes_the_place_of_the_models_default_a5() {
    let directory = copy();
    let settings = r#"{"prompts": {"query": "the movie : "}, "default_prompt_name": "query"}"#;
    write(&directory, "config_sentence_transformers.json", settings);
    let ids = |prompt: Option<&str>, text: &str| {
        let prompt = prompt.map(str::to_owned);
        let model = TextModel::load(&TextModelOptions { prompt, ..options(&directory) }).unwrap();
        model.tokenize(text).unwrap().ids().to_vec()
    };
    assert_eq!(ids(None, "boring"), ids(Some(""), "the movie : boring"));
    assert_eq!(ids(Some("not "), "boring"), ids(Some(""), "not boring"));
    assert_ne!(ids(None, "boring"), ids(Some(""), "boring"));
    let described = TextModel::load(&options(&directory)).unwrap().describe();
    assert!(described.contains(", prompt \"the movie : \")"), "{described}");
}

#[test]
fn settings_that_are_not_applied_are_refused_by_name_a5() {
    let sentence = "sentence_bert_config.json";
    let model = "config_sentence_transformers.json";
    for (file, settings, named) in [
        (
            model,
            json!({"default_prompt_name": "query", "prompts": {}}),
            "default_prompt_name = query",
        ),
        (model, json!({"model_type": "SparseEncoder"}), "model_type = SparseEncoder"),
        (sentence, json!({"query_length": 32}), "query_length = 32"),
        (sentence, json!({"transformer_task": "fill-mask"}), "transformer_task = fill-mask"),
        (
            sentence,
            json!({"config_args": {"num_hidden_layers": 1}}),
            "config_args = {\"num_hidden_layers\":1}",
        ),
        (
            sentence,
            json!({"tokenizer_args": {"do_lower_case": false}}),
            "tokenizer_args.do_lower_case = false",
        ),
        (sentence, json!({"processing_kwargs": {"text": {"max_length": 4}}}), "processing_kwargs"),
        (sentence, json!({"max_seq_length": "long"}), "no valid `max_seq_length`"),
        (sentence, json!({"do_lower_case": "yes"}), "no valid `do_lower_case`"),
        (
            "sentence_xlnet_config.json",
            json!({"tokenizer_name_or_path": "other"}),
            "tokenizer_name_or_path",
        ),
        ("adapter_config.json", json!({"peft_type": "LORA"}), "peft_type = LORA"),
    ] {
        let message = refused(&[(file, settings)]);
        assert!(message.starts_with(file) && message.contains(named), "{message}");
    }
}

#[test]
fn settings_without_an_effect_are_accepted_a5() {
    let directory = copy();
    let settings = json!({
        "max_seq_length": null, "do_lower_case": false, "model_args": {"torch_dtype": "float16"},
        "tokenizer_args": {"use_fast": true}, "unpad_inputs": true, "query_length": null,
    });
    write(&directory, "sentence_bert_config.json", settings.to_string());
    let settings = json!({
        "__version__": {"pytorch": "2"}, "similarity_fn_name": "dot", "model_type": "SentenceTransformer",
        "prompts": {"query": "q"}, "default_prompt_name": null,
    });
    write(&directory, "config_sentence_transformers.json", settings.to_string());
    TextModel::load(&embedder(&directory)).unwrap();
}

fn module(place: usize, class: &str) -> Value {
    let path = if place == 0 { String::new() } else { format!("{place}_{class}") };
    json!({"idx": place, "name": place.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")})
}

fn modules(classes: &[&str]) -> Value {
    classes.iter().enumerate().map(|(place, class)| module(place, class)).collect()
}

#[test]
fn modules_that_are_not_applied_are_refused_by_name_a6() {
    for classes in [
        &["WordEmbeddings", "Pooling"][..],
        &["Transformer", "Pooling", "LayerNorm"],
        &["Transformer", "WeightedLayerPooling"],
        &["Transformer", "LSTM", "Pooling"],
        &["Transformer", "Pooling", "Pooling"],
        &["Transformer", "Dense", "Pooling"],
        &["CLIPModel"],
    ] {
        let message = refused(&[("modules.json", modules(classes))]);
        assert!(
            message.starts_with("modules.json asks for type = sentence_transformers.models."),
            "{message}"
        );
        assert!(
            message.contains(", supported: Transformer, Pooling, Dense, Normalize"),
            "{message}"
        );
    }
    let own = json!([{"path": "", "type": "custom_st.Transformer"}]);
    let message = refused(&[("modules.json", own)]);
    assert!(message.contains("type = custom_st.Transformer"), "{message}");
    let outside = json!([module(0, "Transformer"), {"path": "../other", "type": "sentence_transformers.models.Pooling"}]);
    let message = refused(&[("modules.json", outside)]);
    assert!(message.contains("path = ../other, supported: a folder of the model"), "{message}");
}

#[test]
fn dense_layers_that_are_not_applied_are_refused_by_name_a6() {
    let tanh = "torch.nn.modules.activation.Tanh";
    let dense = |key: &str, value: Value| {
        let mut config =
            json!({"in_features": 32, "out_features": 16, "activation_function": tanh});
        config[key] = value;
        let all = modules(&["Transformer", "Pooling", "Dense"]);
        let pooling = ("1_Pooling/config.json", json!({}));
        refused(&[("modules.json", all), pooling, ("2_Dense/config.json", config)])
    };
    for (key, value, named) in [
        (
            "activation_function",
            json!("torch.nn.modules.activation.SiLU"),
            "activation_function = torch.nn.modules.activation.SiLU",
        ),
        ("activation_function", json!("mine.Tanh"), "activation_function = mine.Tanh"),
        ("use_residual", json!(true), "use_residual = true, supported: false"),
        ("module_input_name", json!("token_embeddings"), "module_input_name = token_embeddings"),
        ("in_features", json!(64), "in_features = 64, supported: 32, the length"),
        ("out_features", json!(1_000_000_000_000_u64), "cannot read 2_Dense/model.safetensors"),
        ("temperature", json!(0.5), "temperature = 0.5"),
    ] {
        let message = dense(key, value);
        assert!(message.contains("2_Dense/"), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn dimensions_are_counted_after_the_dense_layers_a6() {
    let Expected { cases, .. } = expected();
    let case = cases.iter().find(|case| case.name == "a dense layer with Tanh").unwrap();
    let directory = case.directory();
    let with = |dimensions: usize| {
        let dimensions = dimensions.try_into().ok();
        let embedding = EmbeddingOptions { dimensions, ..EmbeddingOptions::default() };
        TextModelOptions { embedding, ..embedder(&directory) }
    };
    let mut model = TextModel::load(&with(4)).unwrap();
    let output = model.answer(&["boring"]).unwrap().remove(0).unwrap();
    let TextOutput::Embedding { embedding } = output else { panic!("{output:?}") };
    assert_eq!(embedding.len(), 4);
    assert_eq!(
        error_message_for(&with(17)),
        "dimensions = 17 is more than the 16 that this model has; lower it"
    );
}

#[test]
fn an_encoder_in_a_folder_of_its_own_is_found_a5() {
    let directory = copy();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let bytes = fs::read(directory.path().join(file)).unwrap();
        write(&directory, &format!("0_BERT/{file}"), bytes);
        fs::remove_file(directory.path().join(file)).unwrap();
    }
    write(&directory, "0_BERT/sentence_bert_config.json", r#"{"max_seq_length": 12}"#);
    let all = json!([
        {"path": "0_BERT", "type": "sentence_transformers.models.BERT"}, module(1, "Pooling"),
    ]);
    write(&directory, "modules.json", all.to_string());
    write(&directory, "1_Pooling/config.json", "{}");
    assert_eq!(TextModel::load(&embedder(&directory)).unwrap().max_tokens(), 12);
}

#[test]
fn poolings_that_are_not_applied_are_refused_by_name_b3() {
    let prompt = Some("the movie : ".to_owned());
    for (settings, named) in [
        (
            json!({"pooling_mode": "weightedmean"}),
            "pooling_mode = weightedmean, supported: one of mean, cls and max",
        ),
        (json!({"pooling_mode": ["cls", "mean"]}), "pooling_mode = cls and mean, supported"),
        (json!({"pooling_mode": "lasttoken"}), "pooling_mode = lasttoken"),
        (json!({"pooling_mode": 3}), "no valid `pooling_mode`"),
        (json!({"pooling_mode_lasttoken": true}), "pooling = pooling_mode_lasttoken"),
        (
            json!({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}),
            "pooling = pooling_mode_max_tokens and pooling_mode_mean_tokens",
        ),
        (json!({"pooling_mode_mean_tokens": "yes"}), "no valid `pooling_mode_mean_tokens`"),
        (
            json!({"pooling_mode": "mean", "include_prompt": false}),
            "include_prompt = false, supported: true",
        ),
        (json!({"pooling_mode": "mean", "attention_pooling": 4}), "attention_pooling = 4"),
    ] {
        let directory = copy();
        write(&directory, "1_Pooling/config.json", settings.to_string());
        let message =
            error_message_for(&TextModelOptions { prompt: prompt.clone(), ..embedder(&directory) });
        assert!(
            message.starts_with("1_Pooling/config.json") && message.contains(named),
            "{message}"
        );
    }
}

#[test]
fn a_pooling_without_its_settings_is_refused_unless_the_user_sets_it_b3() {
    let directory = copy();
    write(&directory, "modules.json", modules(&["Transformer", "Pooling"]).to_string());
    let message = error_message_for(&embedder(&directory));
    assert!(message.starts_with("cannot read 1_Pooling/config.json"), "{message}");
    let pooling = Some("cls".parse().unwrap());
    let embedding = EmbeddingOptions { pooling, ..EmbeddingOptions::default() };
    TextModel::load(&TextModelOptions { embedding, ..embedder(&directory) }).unwrap();
}

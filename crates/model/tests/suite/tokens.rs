//! Compares tokens with those of the library transformers, for the settings of a tokenizer.

use std::fs;

use forebay_model::{TextModel, TextModelOptions};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::{self, copy, copy_of, edit, error_message, options, with, write};

/// The contents of `tests/reference/tokens.json`, which `tokens.py` writes.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    /// Keys of `tokenizer_config.json`; null stands for a missing key.
    settings: Map<String, Value>,
    ids: Vec<Vec<u32>>,
}

fn tokens(model: &TextModel, texts: &[String]) -> Vec<Vec<u32>> {
    texts.iter().map(|text| model.tokenize(text).unwrap().ids().to_vec()).collect()
}

#[test]
fn tokens_with_every_setting_agree_with_transformers_a5() {
    let expected = fs::read_to_string(common::reference("tokens.json")).unwrap();
    let Expected { texts, cases } = serde_json::from_str(&expected).unwrap();
    for Case { model, settings, ids } in cases {
        let directory = copy_of(&model);
        edit(&directory, "tokenizer_config.json", |json| {
            let all = json.as_object_mut().unwrap();
            all.extend(settings.clone());
            all.retain(|_, value| !value.is_null());
        });
        let options = TextModelOptions { truncate: true, ..options(&directory) };
        let found = tokens(&TextModel::load(&options).unwrap(), &texts);
        assert_eq!(found, ids, "{model} with {settings:?}");
    }
}

#[test]
fn special_tokens_that_contradict_the_tokenizer_are_refused_a5() {
    let bert = json!("BertTokenizer");
    for (key, token, found) in [
        (
            "cls_token",
            json!("[MASK]"),
            "cls_token = [MASK], supported: [CLS], as in tokenizer.json",
        ),
        ("sep_token", json!({"content": "[UNK]"}), "sep_token = [UNK], supported: [SEP]"),
        ("unk_token", json!("[PAD]"), "unk_token = [PAD], supported: [UNK]"),
        (
            "additional_special_tokens",
            json!(["<new>"]),
            "additional_special_tokens = <new>, supported: tokens that",
        ),
        ("extra_special_tokens", json!({"image": "<new>"}), "extra_special_tokens = <new>"),
        (
            "added_tokens_decoder",
            json!({"200": {"content": "<new>"}}),
            "added_tokens_decoder = <new>",
        ),
    ] {
        let directory = with("tokenizer_config.json", |json| {
            json["tokenizer_class"] = bert.clone();
            json[key] = token;
        });
        let message = error_message(&directory);
        assert!(message.starts_with("tokenizer_config.json asks for "), "{message}");
        assert!(message.contains(found), "{message}");
    }
    let directory = copy();
    edit(&directory, "tokenizer_config.json", |json| {
        let settings = json.as_object_mut().unwrap();
        settings.remove("cls_token");
        settings.remove("tokenizer_class");
    });
    write(&directory, "special_tokens_map.json", r#"{"cls_token": "[MASK]"}"#);
    let message = error_message(&directory);
    assert!(
        message.starts_with("special_tokens_map.json asks for cls_token = [MASK]"),
        "{message}"
    );
}

#[test]
fn special_tokens_are_compared_with_those_around_a_text_not_with_padding_a5() {
    let directory = with("tokenizer.json", |json| {
        json["padding"] = json!({
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        });
    });
    edit(&directory, "tokenizer_config.json", |json| {
        json["tokenizer_class"] = json!("BertTokenizer");
    });
    assert_eq!(TextModel::load(&options(&directory)).unwrap().tokenize("").unwrap().ids(), [2, 3]);
}

#[test]
fn settings_with_a_wrong_type_are_refused_a5() {
    for (key, value) in [
        ("do_lower_case", json!("no")),
        ("strip_accents", json!(1)),
        ("truncation_side", json!("top")),
    ] {
        let directory = with("tokenizer_config.json", |json| {
            json["tokenizer_class"] = json!("BertTokenizer");
            json[key] = value;
        });
        let message = error_message(&directory);
        assert!(
            message.contains(&format!("tokenizer_config.json has no valid `{key}`")),
            "{message}"
        );
    }
}

#[test]
fn a_vocabulary_of_bert_makes_the_same_tokens_as_its_tokenizer_b7() {
    let directory = copy();
    let path = directory.path().join("tokenizer.json");
    let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut words: Vec<_> = json["model"]["vocab"].as_object().unwrap().iter().collect();
    words.sort_by_key(|(_, id)| id.as_u64());
    let words: Vec<_> = words.into_iter().map(|(word, _)| word.as_str()).collect();
    let texts =
        ["The Movie was Not so great", "café BORING [MASK]", "good  movie 中文", "good movie中文"];
    let texts = texts.map(str::to_owned);
    let before = tokens(&TextModel::load(&options(&directory)).unwrap(), &texts);
    fs::remove_file(path).unwrap();
    write(&directory, "vocab.txt", words.join("\n") + "\n");
    let after = tokens(&TextModel::load(&options(&directory)).unwrap(), &texts);
    assert_eq!(after, before);

    // Lines may end as on Windows.
    write(&directory, "vocab.txt", words.join("\r\n") + "\r\n");
    assert_eq!(tokens(&TextModel::load(&options(&directory)).unwrap(), &texts), before);
}

#[test]
fn other_vocabularies_are_refused_with_the_command_that_converts_them_b7() {
    for file in ["vocab.json", "sentencepiece.bpe.model", "spiece.model", "vocab.txt"] {
        let directory = copy();
        fs::remove_file(directory.path().join("tokenizer.json")).unwrap();
        write(&directory, file, "<s>\n</s>\n");
        let message = error_message(&directory);
        let start = format!(
            "{file} is not a format that Forebay reads; make tokenizer.json of it: python3 -c "
        );
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("AutoTokenizer"), "{message}");
    }
}

//! Models that cannot be loaded.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Case, MODEL, case, exits_with, explain, neighbour, stderr};
use crate::binary::{forebay, output, root};

/// A change of a model's directory.
type Change = Box<dyn Fn(&Path)>;

fn change(change: impl Fn(&Path) + 'static) -> Change {
    Box::new(change)
}

/// Sets a key of `config.json`.
fn set(key: &'static str, value: Value) -> Change {
    change(move |model| {
        let file = model.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config[key] = value.clone();
        fs::write(&file, config.to_string()).unwrap();
    })
}

fn utf16(file: &'static str) -> Change {
    change(move |model| {
        let text = fs::read_to_string(model.join(file)).unwrap();
        let bytes = text.encode_utf16().flat_map(u16::to_le_bytes);
        fs::write(model.join(file), [0xff, 0xfe].into_iter().chain(bytes).collect::<Vec<_>>())
            .unwrap();
    })
}

fn rename(from: &'static str, to: &'static str) -> Change {
    change(move |model| fs::rename(model.join(from), model.join(to)).unwrap())
}

fn replace(file: &'static str, content: &'static str) -> Change {
    change(move |model| fs::write(model.join(file), content).unwrap())
}

fn both(one: Change, other: Change) -> Change {
    change(move |model| {
        one(model);
        other(model);
    })
}

fn sizes_and_labels() -> Vec<Case<Change>> {
    vec![
        case(
            "b2",
            set("id2label", json!({"0": "a"})),
            ["names 1 labels, but the classifier", "m/config.json", "correct `id2label`"],
        ),
        neighbour(
            "b2",
            set("id2label", json!(["a", "b", "c"])),
            ["names 3 labels, but the classifier", "m/config.json", "correct `id2label`"],
        ),
        neighbour(
            "b2",
            set("id2label", json!({"0": {}, "1": "b"})),
            ["no valid `id2label`", "m/config.json", "expected "],
        ),
        case(
            "b6",
            set("intermediate_size", json!(10_000_000_000_u64)),
            [
                "is [96, 32], but config.json asks for [10000000000, 32]",
                "m/model.safetensors",
                "correct config.json, or take the weights that belong to it",
            ],
        ),
        case(
            "b6",
            set("hidden_size", json!(1_000_000_000_000_u64)),
            ["1000000000000]", "m/model.safetensors", "correct config.json"],
        ),
        neighbour(
            "b6",
            set("vocab_size", json!(u64::MAX)),
            ["asks for [18446744073709551615, 32]", "m/model.safetensors", "correct config.json"],
        ),
        neighbour(
            "b6",
            set("num_attention_heads", json!(0)),
            ["no valid `num_attention_heads`", "m/config.json", "expected a positive integer"],
        ),
        case(
            "a7",
            set("is_decoder", json!(true)),
            ["is_decoder = true", "m/config.json", "supported: false"],
        ),
        neighbour(
            "a7",
            set("hidden_act", json!("mish")),
            ["hidden_act = mish", "m/config.json", "supported: gelu"],
        ),
    ]
}

fn formats_of_files() -> Vec<Case<Change>> {
    let torch = || rename("model.safetensors", "pytorch_model.bin");
    let in_parts = || {
        both(
            rename("model.safetensors", "pytorch_model-00001-of-00002.bin"),
            replace("pytorch_model.bin.index.json", "{}"),
        )
    };
    vec![
        case("b5", utf16("config.json"), ["is in UTF-16", "m/config.json", "save it in UTF-8"]),
        case(
            "b5",
            utf16("tokenizer.json"),
            ["is in UTF-16", "m/tokenizer.json", "save it in UTF-8"],
        ),
        neighbour(
            "b5",
            replace("config.json", "{\n  \"model_type\": bert\n}"),
            ["expected value at line 2", "invalid JSON in m/config.json", "correct it"],
        ),
        case(
            "b7",
            torch(),
            [
                "is not a format that Forebay reads",
                "m/pytorch_model.bin",
                "make model.safetensors of it: python3 -c",
            ],
        ),
        neighbour(
            "b7",
            in_parts(),
            [
                "is not a format that Forebay reads",
                "m/pytorch_model.bin.index.json",
                "make model.safetensors of it: python3 -c",
            ],
        ),
        neighbour(
            "b7",
            both(rename("tokenizer.json", "other"), replace("sentencepiece.bpe.model", "")),
            [
                "is not a format that Forebay reads",
                "m/sentencepiece.bpe.model",
                "make tokenizer.json of it: python3 -c",
            ],
        ),
        neighbour(
            "b7",
            both(
                rename("model.safetensors", "other"),
                replace(
                    "model.safetensors.index.json",
                    r#"{"weight_map": {"classifier.bias": "../m.safetensors"}}"#,
                ),
            ),
            ["not in the same directory", "m/model.safetensors.index.json", "move it there"],
        ),
    ]
}

fn missing_and_damaged_files() -> Vec<Case<Change>> {
    vec![
        neighbour(
            "b7",
            rename("model.safetensors", "other"),
            [
                "No such file or directory",
                "cannot read m/model.safetensors",
                "a model directory holds config.json, tokenizer.json and",
            ],
        ),
        neighbour(
            "b7",
            replace("model.safetensors", "no safetensors at all"),
            ["as safetensors", "m/model.safetensors", "fetch the model again"],
        ),
        neighbour(
            "b7",
            replace(
                "model.safetensors",
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            ),
            ["is a pointer of Git LFS", "m/model.safetensors", "run `git lfs pull`"],
        ),
        neighbour(
            "b7",
            replace("tokenizer.json", "{}"),
            ["cannot load the tokenizer", "m/tokenizer.json", "fetch the model again"],
        ),
        case(
            "b10",
            change(|model| fs::remove_dir_all(model).unwrap()),
            ["there is no config.json", "the model `m` is not at ", "correct its `path`"],
        ),
        // Every user, also root, fails to open a link that points to itself.
        neighbour(
            "b10",
            change(|model| {
                fs::remove_file(model.join("config.json")).unwrap();
                std::os::unix::fs::symlink("config.json", model.join("config.json")).unwrap();
            }),
            [
                "symbolic links",
                "cannot read the directory of the model `m`, ",
                "let this user read it",
            ],
        ),
    ]
}

#[test]
fn a_model_that_cannot_be_loaded_is_explained_a7_b2_b5_b6_b7_b10() {
    let original = root().join("crates/model/tests/reference/tiny-bert-classifier");
    let cases = [sizes_and_labels(), formats_of_files(), missing_and_damaged_files()];
    let cases: Vec<_> = cases.into_iter().flatten().collect();
    explain(&cases, |change: &Change| {
        let directory = TempDir::new().unwrap();
        let copy = directory.path().join("m");
        fs::create_dir(&copy).unwrap();
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        {
            fs::write(copy.join(file), fs::read(original.join(file)).unwrap()).unwrap();
        }
        change(&copy);
        fs::write(directory.path().join("m.toml"), MODEL).unwrap();
        let mut command = forebay();
        command.args(["run", "m.toml"]).current_dir(directory.path());
        let output = output(&mut command, "\"not so boring\"\n");
        // The log tells the progress of loading; the error is the last line.
        let log = stderr(&output);
        (log.lines().last().unwrap_or_default().to_owned(), exits_with(&output, 66))
    });
}

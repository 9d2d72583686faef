//! Files in other formats than the usual ones are read, or named with the way to convert them.

use std::fs;

use forebay_model::{TextModel, TextOutput};
use safetensors::tensor::Dtype;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{copy, edit_tensors, error_message, options, tensors, write, write_tensors};

fn output(directory: &TempDir) -> TextOutput {
    let mut model = TextModel::load(&options(directory)).unwrap();
    model.answer(&["not so boring"]).unwrap().remove(0).unwrap()
}

/// Divides the weights of a directory among three files, with an index.
fn shard(directory: &TempDir) {
    let all = tensors(directory);
    let mut map = json!({});
    for (number, part) in all.chunks(all.len().div_ceil(3)).enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", number + 1);
        for (name, ..) in part {
            map[name] = json!(file);
        }
        write_tensors(directory, &file, part, Dtype::F32, |number| number.to_le_bytes().to_vec());
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    write(directory, "model.safetensors.index.json", index.to_string());
    fs::remove_file(directory.path().join("model.safetensors")).unwrap();
}

#[test]
fn weights_in_several_files_are_loaded_b7() {
    let directory = copy();
    let whole = output(&directory);
    shard(&directory);
    assert_eq!(output(&directory), whole);
}

#[test]
fn the_error_for_an_index_that_does_not_fit_names_the_file_b7() {
    let directory = copy();
    shard(&directory);
    fs::remove_file(directory.path().join("model-00002-of-00003.safetensors")).unwrap();
    let message = error_message(&directory);
    assert!(message.starts_with("cannot read model-00002-of-00003.safetensors"), "{message}");
    for (map, named) in [
        (
            json!({"a": "../model.safetensors"}),
            "names the file \"../model.safetensors\", which is not in",
        ),
        (json!({"a": "/etc/passwd"}), "names the file \"/etc/passwd\""),
        (json!({"a": ".."}), "names the file \"..\""),
        (json!({"a": 1}), "no valid `weight_map`"),
        (json!(null), "no valid `weight_map`"),
        (json!({}), "has no tensor `"),
    ] {
        let index = json!({"weight_map": map});
        write(&directory, "model.safetensors.index.json", index.to_string());
        let message = error_message(&directory);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn weights_in_the_format_of_pytorch_are_refused_with_the_command_that_converts_them_b7() {
    for file in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let directory = copy();
        fs::remove_file(directory.path().join("model.safetensors")).unwrap();
        write(&directory, file, "{}");
        let message = error_message(&directory);
        let start = format!(
            "{file} is not a format that Forebay reads; make model.safetensors of it: python3 -c "
        );
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn a_pointer_of_git_lfs_is_named_b7() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 125424\n";
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let directory = copy();
        write(&directory, file, pointer);
        let message = error_message(&directory);
        assert!(message.starts_with(&format!("{file} is a pointer of Git LFS")), "{message}");
        assert!(message.contains("`git lfs pull`"), "{message}");
    }
}

#[test]
fn byte_order_marks_are_skipped_in_every_json_file_b5() {
    let directory = copy();
    write(&directory, "special_tokens_map.json", "{}");
    write(&directory, "sentence_bert_config.json", r#"{"max_seq_length": 9}"#);
    write(&directory, "config_sentence_transformers.json", "{}");
    write(
        &directory,
        "modules.json",
        r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}]"#,
    );
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("\u{feff}{text}")).unwrap();
        }
    }
    assert_eq!(TextModel::load(&options(&directory)).unwrap().max_tokens(), 9);
}

#[test]
fn other_encodings_are_named_b5() {
    let utf_16 = |text: &str, mark: bool, big: bool| -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        for (mark, big) in [(true, false), (true, true), (false, false), (false, true)] {
            let directory = copy();
            let text = fs::read_to_string(directory.path().join(file)).unwrap();
            write(&directory, file, utf_16(&text, mark, big));
            assert_eq!(error_message(&directory), format!("{file} is in UTF-16; save it in UTF-8"));
        }
    }
    let directory = copy();
    write(&directory, "config.json", b"\xff\xfe\0\0{\0\0\0}\0\0\0");
    assert_eq!(error_message(&directory), "config.json is in UTF-32; save it in UTF-8");
}

#[test]
fn a_vector_that_is_not_finite_is_kept_for_the_reply_to_refuse_a4() {
    let directory = copy();
    edit_tensors(&directory, |tensors| {
        for (_, _, numbers) in tensors.iter_mut().filter(|(name, ..)| name.contains("LayerNorm")) {
            numbers[0] = f32::INFINITY;
        }
    });
    let task = Some(forebay_model::Task::TextEmbedding);
    let options = forebay_model::TextModelOptions { task, ..options(&directory) };
    let output = TextModel::load(&options).unwrap().answer(&["boring"]).unwrap().remove(0).unwrap();
    let TextOutput::Embedding { embedding } = output else { panic!("{output:?}") };
    assert!(embedding.iter().any(|number| !number.is_finite()), "{embedding:?}");
}

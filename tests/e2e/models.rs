//! The binary with directories of models that are not as they should be.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::binary::{output, root};
use crate::errors::{Parts, assert_has};

const PIPELINE: &str = r#"
[source.stdin]
[[step]]
adaptive_window = {}
[[step]]
map_batch = { model = "m" }
[sink.stdout]
[model.m]
path = "m"
device = "cpu"
"#;

/// Returns a directory with a pipeline file and a copy of a tiny model, which every user may read.
fn copy() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("m");
    fs::create_dir(&model).unwrap();
    for path in [directory.path(), &model] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(directory.path().join("m.toml"), PIPELINE).unwrap();
    let original = root().join("crates/model/tests/reference/tiny-bert-classifier");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::write(model.join(file), fs::read(original.join(file)).unwrap()).unwrap();
    }
    directory
}

fn run(
    forebay: &str,
    command: &str,
    directory: &Path,
    change: impl FnOnce(&mut Command),
) -> Output {
    let mut forebay = Command::new(forebay);
    forebay.args([command, "m.toml"]).current_dir(directory);
    change(&mut forebay);
    output(&mut forebay, "\"not so boring\"\n")
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_model_that_this_user_may_not_read_is_not_called_missing_b10() {
    let directory = copy();
    let model = directory.path().join("m");
    // The user `nobody` may not read the folder of the build, so the binary is copied.
    let forebay = directory.path().join("forebay");
    fs::hard_link(env!("CARGO_BIN_EXE_forebay"), &forebay)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_forebay"), &forebay).map(drop))
        .unwrap();
    let forebay = forebay.to_str().unwrap();
    fs::set_permissions(&model, Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, so as root the binary runs as another user.
    let is_root = fs::read_dir(&model).is_ok();
    let as_user = |command: &mut Command| {
        if is_root {
            command.uid(65534).gid(65534);
        }
    };
    for command in ["check", "run"] {
        let output = run(forebay, command, directory.path(), as_user);
        let log = log(&output);
        assert_eq!(output.status.code(), Some(66), "{log}");
        let place = format!("cannot read the directory of the model `m`, {}", model.display());
        let remedy = "let this user read it";
        assert_has(&log, Parts { cause: "Permission denied", place: &place, remedy });
        assert!(!log.contains("there is no"), "{log}");
    }
    fs::set_permissions(&model, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(model.join("model.safetensors"), Permissions::from_mode(0o000)).unwrap();
    let output = run(forebay, "run", directory.path(), as_user);
    let log = log(&output);
    assert_eq!(output.status.code(), Some(66), "{log}");
    let remedy = "let this user read it";
    let place = "cannot read m/model.safetensors";
    assert_has(&log, Parts { cause: "Permission denied", place, remedy });
}

#[test]
fn a_model_whose_answers_may_be_others_is_named_in_the_log_a7() {
    let directory = copy();
    let config = directory.path().join("m/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1"#))
        .unwrap();
    let output = run(env!("CARGO_BIN_EXE_forebay"), "run", directory.path(), |_| {});
    let log = log(&output);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("has more than the 1 layers that m/config.json asks for"), "{log}");
}

#[test]
fn a_request_with_a_pair_of_texts_and_a_vector_that_is_not_finite_fail_a4_a8() {
    let directory = copy();
    let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
    forebay.args(["run", "m.toml"]).current_dir(directory.path());
    let answered =
        output(&mut forebay, "{\"text\": \"boring\", \"text_pair\": \"great\"}\n\"boring\"\n");
    let lines: Vec<_> = std::str::from_utf8(&answered.stdout).unwrap().lines().collect();
    assert_eq!(answered.status.code(), Some(65), "{lines:?}");
    assert!(lines[0].contains("invalid_value") && lines[0].contains("text_pair"), "{lines:?}");
    assert!(lines[1].contains("\"label\""), "{lines:?}");

    // Each number of the normalisation's weights becomes NaN.
    let weights = directory.path().join("m/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let offsets = &header["bert.embeddings.LayerNorm.weight"]["data_offsets"];
    let place =
        |index: usize| 8 + length + usize::try_from(offsets[index].as_u64().unwrap()).unwrap();
    for number in bytes[place(0)..place(1)].as_chunks_mut::<4>().0 {
        *number = f32::NAN.to_le_bytes();
    }
    fs::write(&weights, bytes).unwrap();
    fs::write(directory.path().join("m.toml"), PIPELINE.to_owned() + "task = \"text-embedding\"\n")
        .unwrap();
    let answered = run(env!("CARGO_BIN_EXE_forebay"), "run", directory.path(), |_| {});
    let reply = String::from_utf8(answered.stdout).unwrap();
    assert_eq!(answered.status.code(), Some(65), "{reply}");
    assert!(reply.contains("not_finite") && !reply.contains("embedding\":"), "{reply}");
}

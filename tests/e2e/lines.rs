//! Pipelines without a broker, which read lines and write one answer line for each.

use serde_json::Value;

use crate::binary::{forebay, output};

fn run(args: &[&str], input: &str) -> (Vec<Value>, Option<i32>, String) {
    let output = output(forebay().arg("run").args(args).env("DEVICE", "cpu"), input);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_answers_come_in_the_order_of_the_lines() {
    let input = "{\"text\": \"a wonderful film\"}\n\nnot json\n\"a dreadful, boring film\"\n{\"txt\": 1}\n\"a wonderful film\"";
    let (lines, code, log) = run(&["config/lines.toml"], input);
    let answers: Vec<_> = lines
        .iter()
        .map(|line| line["label"].as_str().or(line["error"]["code"].as_str()).unwrap())
        .collect();
    assert_eq!(
        answers,
        ["positive", "invalid_json", "negative", "missing_field", "positive"],
        "{log}"
    );
    assert_eq!(code, Some(65), "some lines failed");
}

#[test]
fn with_stdio_a_kafka_pipeline_reads_and_writes_lines() {
    let (lines, code, log) = run(&["--stdio", "config/sentiment.toml"], "\"a wonderful film\"\n");
    assert_eq!(lines[0]["label"], "positive", "{log}");
    assert_eq!(code, Some(0));
}

#[test]
fn empty_input_exits_with_0() {
    let (lines, code, _) = run(&["config/lines.toml"], "");
    assert_eq!((lines.len(), code), (0, Some(0)));
}

#[test]
fn files_are_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.jsonl");
    let out = folder.path().join("out.jsonl");
    let lines: Vec<_> = (0..200).map(|number| format!("{{\"text\": \"film {number}\"}}")).collect();
    std::fs::write(&input, lines.join("\n")).unwrap();
    let mut command = forebay();
    command
        .args(["run", "config/files.toml"])
        .env("DEVICE", "cpu")
        .env("IN", &input)
        .env("OUT", &out);
    assert_eq!(output(&mut command, "").status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 200);
}

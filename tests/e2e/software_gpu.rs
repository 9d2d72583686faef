//! The wgpu backend through the binary, on a software Vulkan adapter.

use serde_json::Value;

use crate::binary::{forebay, output, root};

const PIPELINE: &str = r#"
[source.stdin]
[[step]]
partition = { size = 2 }
[[step]]
map_batch = { model = "tiny" }
[sink.stdout]
[model.tiny]
path = "crates/model/tests/reference/tiny-bert-classifier"
device = "${DEVICE}"
max_tokens = 16
"#;

fn scores(device: &str) -> Result<Vec<f64>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    let mut command = forebay();
    command.arg("run").arg(&file).current_dir(root()).env("DEVICE", device);
    let output = output(&mut command, "\"hello\"\n\"hello world\"\n\"world\"\n");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let score =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["score"].as_f64().unwrap();
    Ok(String::from_utf8(output.stdout).unwrap().lines().map(score).collect())
}

#[test]
fn a_software_adapter_gives_the_same_answers_as_the_cpu() {
    let found = match scores("gpu:software") {
        Ok(scores) => scores,
        Err(error) if error.contains("no software") && std::env::var_os("CI").is_none() => {
            eprintln!("skipped: no software Vulkan adapter is installed");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let expected = scores("cpu").unwrap();
    assert_eq!(found.len(), 3);
    for (gpu, cpu) in found.iter().zip(&expected) {
        assert!((gpu - cpu).abs() < 1e-4, "{found:?} {expected:?}");
    }
}

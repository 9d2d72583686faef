//! The command line: output and exit codes.

use crate::binary::{Service, forebay, output};
use crate::broker::Broker;
use crate::errors::{Parts, assert_has};

#[test]
fn every_file_in_config_passes_check_or_lacks_only_its_model() {
    let mut files: Vec<_> = std::fs::read_dir(crate::binary::root().join("config"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let output = output(forebay().arg("check").arg(&file), "");
        let error = String::from_utf8_lossy(&output.stderr);
        let fetched_model = error.contains("is not at") && file.ends_with("embed.toml");
        assert!(output.status.success() || fetched_model, "{}: {error}", file.display());
        assert!(super::binary::output(forebay().arg("graph").arg(&file), "").status.success());
    }
}

#[test]
fn an_invalid_file_exits_with_64_and_points_at_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[source.stdin]\n[sink.stdot]\n").unwrap();
    for command in ["check", "run", "graph"] {
        let output = output(forebay().arg(command).arg(&file), "");
        assert_eq!(output.status.code(), Some(64));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("wrong.toml:2:7") && error.contains("`stdout`"), "{error}");
    }
}

#[test]
fn wrong_flags_exit_with_64() {
    for args in [
        &["run"][..],
        &["run", "--no-such-flag", "x.toml"],
        &["demo", "--device", "tpu"],
        &["frobnicate"],
    ] {
        assert_eq!(output(forebay().args(args), "").status.code(), Some(64), "{args:?}");
    }
    assert!(output(forebay().arg("--help"), "").status.success());
}

#[test]
fn a_missing_topic_is_reported_with_exit_code_69() {
    let broker = Broker::start("topicless");
    let mut command = forebay();
    command
        .args(["run", "config/sentiment.toml"])
        .envs(broker.variables())
        .env("REPLIES_TOPIC", "no-such-topic");
    if std::env::var_os("KAFKA_BROKERS").is_none() {
        eprintln!("skipped: the embedded broker creates every topic that a client asks for");
        return;
    }
    let output = output(&mut command, "");
    assert_eq!(output.status.code(), Some(69));
    let log = String::from_utf8_lossy(&output.stderr);
    let remedy = "create it, or correct the name";
    let place = format!("the topic \"no-such-topic\" does not exist at {}", broker.address);
    assert_has(&log, Parts { cause: "cannot connect to Kafka", place: &place, remedy });
}

#[test]
fn an_embedded_broker_serves_any_pipeline() {
    let mut command = forebay();
    command.args(["run", "--embedded-broker", "config/sentiment.toml"]).env("DEVICE", "cpu");
    Service::start(&mut command).stop();
}

#[test]
fn the_list_of_devices_tells_which_one_auto_takes() {
    let words = output(forebay().arg("devices"), "");
    assert!(words.status.success(), "{words:?}");
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("cpu           the CPU ("), "{words}");
    assert!(words.contains("\nauto takes "), "{words}");
    let lines = output(forebay().args(["devices", "--json"]), "");
    let lines = String::from_utf8(lines.stdout).unwrap();
    let devices: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(devices.last().unwrap()["device"], "cpu");
    let auto: Vec<_> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert_eq!(auto.len(), 1, "{lines}");
    assert_ne!(auto[0]["device"], "gpu:software");
}

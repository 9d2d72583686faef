//! The command line: output and exit codes.

use tempfile::NamedTempFile;

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

#[test]
fn log_lines_are_json_objects_on_request_and_so_is_the_error_that_ends_the_run() {
    let file = NamedTempFile::new().unwrap();
    let text = "[on_failure]\npolicy = \"stop\"\n[source.stdin]\n[[step]]\nname = \"show\"\ninspect = \".id\"\n\
                [[step]]\nmap = \"1 / .id\"\n[sink.stdout]\n";
    std::fs::write(file.path(), text).unwrap();
    let run = |arguments: &[&str], variable: &str, input: &str| {
        let mut command = forebay();
        command.arg("run").args(arguments).arg(file.path()).env("FOREBAY_LOG_FORMAT", variable);
        let output = output(&mut command, input);
        let text = String::from_utf8(output.stderr).unwrap();
        let lines = text.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        (output.status.code(), lines.collect::<Vec<serde_json::Value>>())
    };
    let (code, lines) = run(&["--log-format", "json"], "text", "{\"id\": 7}\n");
    assert_eq!(code, Some(0), "{lines:?}");
    let shown = lines.iter().find(|line| line["message"] == "7").unwrap();
    assert_eq!((&shown["step"], &shown["level"]), (&"show".into(), &"INFO".into()), "{shown}");
    assert!(lines.iter().any(|line| line["answers"] == 1), "{lines:?}");

    let (code, lines) = run(&[], "json", "{\"id\": 0}\n");
    assert_eq!(code, Some(70), "{lines:?}");
    let failed = lines.iter().find(|line| line["origin"] == "stdin:1").unwrap();
    assert_eq!(failed["level"], "ERROR", "{failed}");
    let last = lines.last().unwrap();
    assert_eq!((&last["exit_code"], &last["level"]), (&70.into(), &"ERROR".into()), "{last}");

    std::fs::write(file.path(), "[source.stdin]\n[sink.stdot]\n").unwrap();
    let (code, lines) = run(&["--log-format", "json"], "text", "");
    assert_eq!(code, Some(64), "{lines:?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("stdot"), "{lines:?}");
}

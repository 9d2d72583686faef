//! The `kcat` commands of the README.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::binary::{Service, forebay};
use crate::broker::Broker;

#[test]
fn kcat_produces_a_request_and_consumes_its_reply() {
    if Command::new("kcat").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have kcat");
        eprintln!("skipped: kcat is not installed");
        return;
    }
    let broker = Broker::start("kcat");
    let service =
        Service::start(forebay().args(["run", "config/sentiment.toml"]).envs(broker.variables()));

    let mut producer = Command::new("kcat")
        .args([
            "-b",
            &broker.address,
            "-P",
            "-t",
            &broker.requests,
            "-K:",
            "-H",
            "kafka_correlationId=42",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    producer.stdin.take().unwrap().write_all(b"me:{\"text\": \"a wonderful film\"}\n").unwrap();
    assert!(producer.wait().unwrap().success());

    // `-c 1` lets kcat exit after one record.
    let consumed = Command::new("kcat")
        .args([
            "-b",
            &broker.address,
            "-C",
            "-t",
            &broker.replies,
            "-o",
            "beginning",
            "-c",
            "1",
            "-f",
            "%k %h %s",
        ])
        .output()
        .unwrap();
    service.stop();
    let consumed = String::from_utf8(consumed.stdout).unwrap();
    assert!(
        consumed.starts_with("me kafka_correlationId=42 {\"label\":\"positive\",\"score\":"),
        "{consumed}"
    );
}

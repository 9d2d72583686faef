//! Dead letters, and `forebay replay`, which sends them again.

use std::time::Duration;

use rdkafka::message::{Headers as _, Message as _};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Service, forebay, output};
use crate::broker::Broker;
use crate::clients::{Request, from_start, lag, produce, read_replies};

const PATIENCE: Duration = Duration::from_mins(1);

/// An expression that answers with the request, and fails if `n` is a multiple of three.
const PICKY: &str = "if .n % 3 == 0 then error(\\\"no threes\\\") else . end";

/// Returns a pipeline file with dead letters that applies `expression` to each request.
fn pipeline(expression: &str) -> NamedTempFile {
    let text = format!(
        r#"
[source.kafka]
brokers = "${{KAFKA_BROKERS}}"
topic = "${{REQUESTS_TOPIC}}"
group = "${{CONSUMER_GROUP}}"
[[step]]
name = "pick"
map = "{expression}"
[sink.kafka]
topic = "${{REPLIES_TOPIC}}"
[on_failure]
policy = {{ dead_letter = {{ topic = "${{LETTERS_TOPIC}}" }} }}
"#
    );
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

pub(crate) type Header = (String, Option<Vec<u8>>);

/// A record's partition, key, value and headers.
pub(crate) type Record = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

/// Reads `count` records of a topic from its start. Returns them sorted.
pub(crate) fn records(broker: &Broker, topic: &str, count: usize) -> Vec<Record> {
    let consumer = from_start(broker, &[topic]);
    let mut found = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        found.push((
            message.partition(),
            message.key().map(<[u8]>::to_vec),
            message.payload().map(<[u8]>::to_vec),
            headers
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        ));
    }
    found.sort();
    found
}

/// Runs `forebay replay`. Returns its output, its log and its exit code.
fn replay(command: &mut std::process::Command, args: &[&str]) -> (String, String, Option<i32>) {
    let output = output(command.args(args), "");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn dead_letters_are_listed_replayed_once_and_answered() {
    let broker = Broker::start("replay");
    let letters = broker.topic("letters");
    let picky = pipeline(PICKY);
    let run = |file: &NamedTempFile| {
        let mut command = forebay();
        command.arg("run").arg(file.path()).envs(broker.variables()).env("LETTERS_TOPIC", &letters);
        Service::start(&mut command)
    };
    let replay = |args: &[&str]| {
        let mut command = forebay();
        command.arg("replay").arg(picky.path()).envs(broker.variables());
        let (out, log, code) = replay(command.env("LETTERS_TOPIC", &letters), args);
        assert_eq!(code, Some(0), "{out}{log}");
        (out, log)
    };
    let request = |n: usize| Request {
        id: format!("id-{n}"),
        key: Some(format!("key-{n}").into_bytes()),
        value: Some(json!({ "n": n }).to_string().into_bytes()),
    };
    let mut requests: Vec<_> = (1..=10).map(request).collect();
    requests.push(Request {
        id: "broken".into(),
        key: None,
        value: Some(b"{\xff\n broken".to_vec()),
    });
    let is_three = |request: &Request| ["id-3", "id-6", "id-9"].contains(&request.id.as_str());
    let good: Vec<_> =
        requests[..10].iter().filter(|request| !is_three(request)).cloned().collect();
    let threes: Vec<_> = requests.iter().filter(|request| is_three(request)).cloned().collect();

    let service = run(&picky);
    produce(&broker, &requests, 1);
    read_replies(&broker, &good);
    let kept = records(&broker, &letters, 4);
    service.stop();
    assert!(kept.iter().all(|record| record.3.len() > 3));
    let sent = records(&broker, &broker.requests, 11);

    let (shown, _) = replay(&["--dry-run"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!((lines.len(), lines[4]), (5, "would replay 4 of 4 dead letters"), "{shown}");
    assert!(lines[..4].iter().all(|line| line.starts_with(&broker.requests)), "{shown}");
    assert_eq!(shown.matches("  jq_error  pick: ").count(), 3, "{shown}");
    assert_eq!(shown.matches("  invalid_json  decode: ").count(), 1, "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");

    let (shown, _) = replay(&["--dry-run", "--code", "invalid_json", "--since", "1h"]);
    assert_eq!(shown.lines().last(), Some("would replay 1 of 4 dead letters"), "{shown}");
    let (shown, _) = replay(&["--dry-run", "--until", "1h"]);
    assert_eq!(shown, "would replay 0 of 4 dead letters\n");
    let (shown, _) = replay(&["--dry-run", "--stage", "pick", "--limit", "2"]);
    assert_eq!(shown.lines().count(), 3);
    assert!(
        shown.contains("would replay 2 of ") && shown.ends_with("up to the limit\n"),
        "{shown}"
    );

    // The filter fails for the letter that is not JSON, so this letter is not sent.
    let (shown, log) = replay(&["--filter", ".value.n > 3"]);
    assert_eq!(shown, "replayed 2 of 4 dead letters\n");
    assert!(log.contains("the filter failed"), "{log}");
    assert_eq!(replay(&[]).0, "replayed 2 of 2 dead letters\n");
    assert_eq!(replay(&[]).0, "replayed 0 of 0 dead letters\n");
    assert_eq!(replay(&["--dry-run", "--group", "other"]).0.lines().count(), 5);

    // The replayed requests equal the original ones, in the same partitions.
    let mut expected = sent.clone();
    let failed = |record: &&Record| {
        let id = record.3[0].1.as_deref();
        id == Some(b"broken") || threes.iter().any(|three| Some(three.id.as_bytes()) == id)
    };
    expected.extend(sent.iter().filter(failed).cloned());
    expected.sort();
    assert_eq!(records(&broker, &broker.requests, 15), expected);

    let fixed = pipeline(".");
    let service = run(&fixed);
    let replies = read_replies(&broker, &requests[..10]);
    records(&broker, &letters, 5);
    service.stop();
    assert!(replies.values().all(|replies| replies.len() == 1), "each has one answer");
    assert_eq!(lag(&broker), 0);
}

#[test]
fn with_the_option_to_all_letters_go_to_that_topic() {
    let broker = Broker::start("replay-to");
    let letters = broker.topic("letters");
    let other = broker.topic("other");
    let picky = pipeline(PICKY);
    let command = |name: &str| {
        let mut command = forebay();
        command.arg(name).arg(picky.path()).envs(broker.variables()).env("LETTERS_TOPIC", &letters);
        command
    };
    let service = Service::start(&mut command("run"));
    let request = Request { id: "three".into(), key: None, value: Some(b"{\"n\": 3}".to_vec()) };
    produce(&broker, &[request], 1);
    records(&broker, &letters, 1);
    service.stop();
    let (out, log, code) = replay(&mut command("replay"), &["--to", &other]);
    assert_eq!((out.as_str(), code), ("replayed 1 of 1 dead letters\n", Some(0)), "{log}");
    let found = records(&broker, &other, 1);
    assert_eq!(found[0].2.as_deref(), Some(&b"{\"n\": 3}"[..]));
    let names: Vec<_> = found[0].3.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["kafka_correlationId", "sender", "nothing"]);

    let (out, _, _) = replay(&mut command("replay"), &["--from-beginning", "--dry-run"]);
    assert!(out.ends_with("would replay 1 of 1 dead letters\n"), "{out}");
    let (_, log, code) = replay(&mut command("replay"), &["--to", &letters]);
    assert!(code == Some(64) && log.contains("the topic of the dead letters itself"), "{log}");
}

#[test]
fn a_replay_with_wrong_options_or_without_its_topic_fails_with_a_reason() {
    let file = pipeline(".");
    let run = |address: &str, args: &[&str]| {
        let mut command = forebay();
        command.arg("replay").env("KAFKA_BROKERS", address).env("REQUESTS_TOPIC", "no-requests");
        command.env("REPLIES_TOPIC", "no-replies").env("CONSUMER_GROUP", "none");
        let (_, log, code) = replay(command.env("LETTERS_TOPIC", "no-such-topic"), args);
        (log, code)
    };
    let path = file.path().to_str().unwrap();
    let (log, code) = run("", &["config/sentiment.toml"]);
    assert!(code == Some(64) && log.contains("dead_letter = { topic = \"..\" }"), "{log}");
    for wrong in
        [["--filter", ".value |"], ["--since", "yesterday"], ["--limit", "0"], ["--group", ""]]
    {
        let (log, code) = run("127.0.0.1:1", &[&[path], &wrong[..]].concat());
        assert!(code == Some(64) && log.contains("error: "), "{wrong:?}: {log}");
    }
    let (log, code) = run("127.0.0.1:1", &[path]);
    assert!(code == Some(69) && log.contains("no broker answered at 127.0.0.1:1"), "{log}");
    let Ok(address) = std::env::var("KAFKA_BROKERS") else {
        eprintln!("skipped: the embedded broker creates every topic that a client asks for");
        return;
    };
    let (log, code) = run(&address, &[path]);
    assert!(code == Some(69) && log.contains("\"no-such-topic\" does not exist"), "{log}");
}

//! The request-reply clients of `NestJS` and Spring, on a real Kafka. Their programs are in `tests/clients`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::binary::{Service, forebay, root};
use crate::broker::Broker;
use crate::clients::{Reply, all_replies};

/// A pipeline that answers `{"n": 7}` with `{"n": 7, "square": 49}`. Requests name another topic
/// for their replies than the sink's.
const PIPELINE: &str = r#"
[source.kafka]
brokers = "${KAFKA_BROKERS}"
topic = "${REQUESTS_TOPIC}"
group = "${CONSUMER_GROUP}"
[[step]]
map = "{n, square: (.n * .n)}"
[[step]]
adaptive_window = { max_size = 64, max_wait = "2ms" }
[[step]]
map_batch = "."
[sink.kafka]
topic = "${REPLIES_TOPIC}"
reply_topics = ["${REPLY_TOPIC}"]
"#;

/// Longest time that a client may run, in seconds. A client gives each request 30.
const PATIENCE: &str = "120";

/// Returns the folder with the packages of a client, if the machine has a Kafka and these programs.
/// Otherwise prints that the test is skipped.
fn packages(client: &str, programs: [&str; 3]) -> Option<PathBuf> {
    let is_missing = |program: &&str| Command::new(program).arg("--version").output().is_err();
    let mut missing: Vec<_> = programs.into_iter().filter(is_missing).collect();
    if std::env::var_os("KAFKA_BROKERS").is_none() {
        missing.push("KAFKA_BROKERS");
    }
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI must test {client}: {missing:?} are missing");
        eprintln!("skipped: {client} needs a real Kafka and {programs:?}; missing: {missing:?}");
        return None;
    }
    let script = root().join("tests/clients/fetch.sh");
    let output = Command::new(script).arg(client).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the packages of {client} cannot be fetched");
    Some(String::from_utf8(output.stdout).unwrap().trim().into())
}

/// Runs a client against the pipeline. Returns the line of JSON that the client prints, and all
/// replies in its reply topic.
fn run(broker: &Broker, reply_topic: &str, client: &mut Command) -> (Value, Vec<Reply>) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PIPELINE).unwrap();
    let mut command = forebay();
    command.arg("run").arg(file.path()).envs(broker.variables()).env("REPLY_TOPIC", reply_topic);
    let service = Service::start(&mut command);
    let output = client.output().unwrap();
    service.stop();
    let seen = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{seen}\n{log}", output.status);
    let others = all_replies(broker, &broker.replies);
    assert!(others.is_empty(), "these replies are not in the topic that is asked for: {others:#?}");
    (serde_json::from_str(&seen).unwrap(), all_replies(broker, reply_topic))
}

/// Checks that each of 110 requests has the answer to its own number.
#[track_caller]
fn check_answers(answers: &Value, first: u64) {
    let expected = (first..first + 110).map(|n| json!([n, {"n": n, "square": n * n}]));
    assert_eq!(*answers, expected.collect::<Value>());
}

/// Returns the blocks of this language in the section of a page.
fn blocks(page: &str, section: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, section) = page.split_once(&format!("\n{section}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let start = format!("```{language}\n");
    let blocks = section.split(&start).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// Checks that each line of a block stands in a source file.
#[track_caller]
fn check_is_run(block: &str, source: &Path) {
    let source = std::fs::read_to_string(root().join(source)).unwrap();
    for line in block.lines().map(str::trim) {
        assert!(source.lines().any(|run| run.trim() == line), "no client runs this line: {line}");
    }
}

#[test]
fn a_nestjs_client_gets_the_reply_to_each_of_its_requests() {
    let Some(packages) = packages("nest", ["node", "npm", "timeout"]) else { return };
    let broker = Broker::start("nest");
    let reply_topic = format!("{}.reply", broker.requests);
    broker.create(&reply_topic);
    let mut client = Command::new("timeout");
    client
        .args([PATIENCE, "node", "tests/clients/nest/client.js"])
        .args([&broker.address, &broker.requests, &broker.group])
        .env("NODE_PATH", packages.join("node_modules"))
        .current_dir(root());
    let (seen, replies) = run(&broker, &reply_topic, &mut client);

    check_answers(&seen["answers"][0], 0);
    check_answers(&seen["answers"][1], 1000);
    assert_eq!(seen["inTime"], json!({"n": 7, "square": 49}));
    assert_eq!(seen["late"]["code"], "deadline_exceeded");
    assert_eq!(seen["invalid"]["code"], "invalid_json");
    assert_eq!(seen["invalid"]["stage"], "decode");

    // Without a deserializer for Forebay's replies.
    let plain = &seen["plain"];
    assert_eq!(plain["first"], json!({"n": 7, "square": 49}));
    assert_eq!(plain["observed"], json!({"value": {"n": 8, "square": 64}, "completes": false}));
    assert_eq!(plain["invalid"], json!({"error": seen["invalid"]}));

    assert_eq!(replies.len(), 226, "each request is answered once");
    for reply in &replies {
        let asked = String::from_utf8_lossy(reply.header("kafka_replyPartition").unwrap());
        assert_eq!(reply.partition.to_string(), asked, "{reply:?}");
    }
    let mut partitions = [&seen["partitions"][0], &seen["partitions"][1]].map(Value::as_i64);
    partitions.sort_unstable();
    assert_eq!(partitions, [Some(0), Some(1)], "each instance asks for a partition of its own");
}

#[test]
fn a_spring_client_gets_the_reply_to_each_of_its_requests() {
    let Some(packages) = packages("spring", ["java", "mvn", "timeout"]) else { return };
    let broker = Broker::start("spring");
    let reply_topic = broker.topic("for-spring");
    let mut client = Command::new("timeout");
    client
        .args([PATIENCE, "java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
        .arg("-cp")
        .arg(packages.join("lib/*"))
        .arg("tests/clients/spring/src/main/java/Client.java")
        .args([&broker.address, &broker.requests, &reply_topic, &broker.group])
        .current_dir(root());
    let (seen, replies) = run(&broker, &reply_topic, &mut client);

    check_answers(&seen["assigned"], 0);
    check_answers(&seen["shared"], 1000);
    for name in ["inTime", "message"] {
        assert_eq!(seen[name], json!({"n": 7, "square": 49}), "{name}");
    }
    for (name, code) in [("late", "deadline_exceeded"), ("invalid", "jq_error")] {
        let thrown = seen[name].as_str().unwrap();
        assert!(thrown.starts_with(&format!("ForebayException: {code}: ")), "{thrown}");
    }
    // Without a checker, an error is an object of the same class as an answer.
    assert_eq!(seen["unchecked"]["error"]["code"], "jq_error");
    assert_eq!(seen["unchecked"]["n"], Value::Null);

    assert_eq!(replies.len(), 225, "each request is answered once");
    let partition = i32::try_from(seen["partition"].as_i64().unwrap()).unwrap();
    let asks = |reply: &&Reply| reply.header("kafka_replyPartition").is_some();
    let (asked, free): (Vec<_>, Vec<_>) = replies.iter().partition(asks);
    assert_eq!((asked.len(), free.len()), (114, 111));
    assert!(asked.iter().all(|reply| reply.partition == partition), "{asked:#?}");
    assert!(free.iter().any(|reply| reply.partition != partition), "{free:#?}");
}

#[test]
fn the_settings_of_request_reply_clients_in_the_docs_are_those_of_the_tests() {
    let blocks = |section, language| blocks("docs/kafka.md", section, language);
    let of_nest = blocks("### NestJS", "ts");
    check_is_run(&of_nest[0].replace(": any", ""), "tests/clients/nest/client.js".as_ref());
    let of_spring = blocks("### Spring", "java");
    assert_eq!(of_spring.len(), 3);
    for block in of_spring {
        check_is_run(&block, "tests/clients/spring/src/main/java/Client.java".as_ref());
    }
}

//! Committed offsets as the events of a source.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::binary::{Run, Service, forebay, output};
use crate::broker::Broker;
use crate::clients::{Request, committed, produce, read_replies, read_values};

const PATIENCE: Duration = Duration::from_mins(1);

/// Returns a pipeline whose committed offsets go through `steps`, the last one called `told`, and to
/// `sink`.
fn pipeline(delivery: &str, steps: &str, sink: &str) -> String {
    format!(
        r#"
delivery = "{delivery}"
shutdown_timeout = "5s"
[source.kafka]
brokers = "${{KAFKA_BROKERS}}"
topic = "${{REQUESTS_TOPIC}}"
group = "${{CONSUMER_GROUP}}"
committed = "commits"
commit_interval = "50ms"
[[step]]
name = "answers"
map = "."
{steps}
{sink}
from = "told"
[[sink.kafka]]
from = "answers"
topic = "${{REPLIES_TOPIC}}"
"#
    )
}

const MAP: &str = "[[step]]\nname = \"told\"\nfrom = \"commits\"\nmap = \".\"";

fn requests(from: usize, to: usize) -> Vec<Request> {
    let request = |n: usize| Request {
        id: n.to_string(),
        key: Some(n.to_string().into_bytes()),
        value: Some(n.to_string().into_bytes()),
    };
    (from..to).map(request).collect()
}

fn start(broker: &Broker, directory: &TempDir, text: &str) -> Service {
    let file = directory.path().join("pipeline.toml");
    fs::write(&file, text).unwrap();
    Service::start(forebay().arg("run").arg(&file).envs(broker.variables()))
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that the offsets of each partition increase, that the last ones are those that the group
/// has committed, and that they cover `count` requests.
fn assert_agree(broker: &Broker, events: &[Value], count: i64) {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for event in events {
        let partition = event["partition"].as_i64().unwrap();
        let offset = event["offset"].as_i64().unwrap();
        let expected = json!({
            "group": broker.group, "topic": broker.requests, "partition": partition, "offset": offset,
        });
        assert_eq!(*event, expected);
        let before = last.insert(partition, offset);
        assert!(before.is_none_or(|before| before < offset), "{events:?}");
    }
    assert_eq!(last, committed(broker));
    assert_eq!(last.values().sum::<i64>(), count);
}

#[test]
fn the_events_tell_what_the_group_has_committed_e9() {
    for delivery in ["at_least_once", "exactly_once"] {
        let broker = Broker::start(&format!("committed-{delivery}"));
        if delivery == "exactly_once" && !broker.has_transactions() {
            continue;
        }
        let directory = TempDir::new().unwrap();
        let told = directory.path().join("told.jsonl");
        let sink = format!("[[sink.file]]\npath = {:?}", told.display().to_string());
        let service = start(&broker, &directory, &pipeline(delivery, MAP, &sink));
        for part in 0..5 {
            produce(&broker, &requests(100 * part, 100 * (part + 1)), 1);
            read_replies(&broker, &requests(0, 100 * (part + 1)));
        }
        let waiting = Instant::now();
        while lines(&told).len() < 5 {
            assert!(waiting.elapsed() < PATIENCE, "no events before the end");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let last = requests(500, 600);
        produce(&broker, &last, 1);
        read_replies(&broker, &requests(0, 600));
        let log = service.stop();
        assert_agree(&broker, &lines(&told), 600);
        assert!(log.contains("answers=600 errors=0"), "events are no answers: {log}");

        // The next run goes on from there.
        let service = start(&broker, &directory, &pipeline(delivery, MAP, &sink));
        produce(&broker, &requests(600, 700), 1);
        read_replies(&broker, &requests(0, 700));
        service.stop();
        assert_agree(&broker, &lines(&told), 700);
    }
}

#[test]
fn the_events_go_to_a_topic_in_the_order_of_their_partitions_e9() {
    for delivery in ["at_least_once", "exactly_once"] {
        let broker = Broker::start(&format!("committed-topic-{delivery}"));
        if delivery == "exactly_once" && !broker.has_transactions() {
            continue;
        }
        let told = broker.topic("told");
        let directory = TempDir::new().unwrap();
        let sink = format!("[[sink.kafka]]\ntopic = \"{told}\"");
        let text = format!("order = \"key\"\n{}", pipeline(delivery, MAP, &sink));
        let service = start(&broker, &directory, &text);
        for part in 0..4 {
            produce(&broker, &requests(50 * part, 50 * (part + 1)), 1);
            read_replies(&broker, &requests(0, 50 * (part + 1)));
        }
        service.stop();
        let records = read_values(&broker, &told);
        let events: Vec<Value> = records
            .iter()
            .map(|(key, value)| {
                let event: Value = serde_json::from_slice(value).unwrap();
                let expected = format!("{}-{}", broker.requests, event["partition"]);
                assert_eq!(*key, expected.into_bytes());
                event
            })
            .collect();
        assert_agree(&broker, &events, 200);
    }
}

#[test]
fn events_that_are_not_taken_hold_up_neither_commits_nor_the_end_e9() {
    let broker = Broker::start("committed-held");
    let directory = TempDir::new().unwrap();
    let hold =
        "[[step]]\nname = \"told\"\nfrom = \"commits\"\ndelay = { by = \"1h\", capacity = 1 }";
    let text = pipeline("at_least_once", hold, "[[sink.stdout]]");
    let service = start(&broker, &directory, &text);
    for part in 0..4 {
        produce(&broker, &requests(20 * part, 20 * (part + 1)), 1);
        read_replies(&broker, &requests(0, 20 * (part + 1)));
    }
    let waiting = Instant::now();
    while committed(&broker).values().sum::<i64>() < 80 {
        assert!(waiting.elapsed() < PATIENCE, "commits wait for their events");
    }
    let stopping = Instant::now();
    let log = service.stop();
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
    assert!(log.contains("events of the last commits could not be delivered in time"), "{log}");
    assert!(log.contains("answers=80 errors=0"), "{log}");
}

#[test]
fn an_event_that_fails_is_named_and_no_request_fails_e9() {
    for policy in ["\"reply\"", "\"stop\""] {
        let broker = Broker::start("committed-fails");
        let directory = TempDir::new().unwrap();
        let steps = "[[step]]\nname = \"told\"\nfrom = \"commits\"\nmap = 'error(\"no\")'";
        let text = pipeline("at_least_once", steps, "[[sink.stdout]]");
        let text = format!("{text}[on_failure]\npolicy = {policy}\n");
        let service = start(&broker, &directory, &text);
        produce(&broker, &requests(0, 20), 1);
        read_replies(&broker, &requests(0, 20));
        let log = service.stop();
        let line =
            log.lines().find(|line| line.contains("the event of a commit failed")).expect(&log);
        let origin = format!("committed {}[", broker.requests);
        assert!(line.contains(&origin) && line.contains("(at told)"), "{line}");
        assert!(log.contains("answers=20 errors=0"), "{log}");
    }
}

#[test]
fn a_sink_of_events_that_fails_ends_the_run_after_the_requests_in_flight_e9() {
    let broker = Broker::start("committed-full");
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pipeline.toml");
    let text = pipeline("at_least_once", MAP, "[[sink.file]]\npath = \"/dev/full\"");
    fs::write(&file, text).unwrap();
    let run = Run::start(forebay().arg("run").arg(&file).envs(broker.variables()));
    run.await_line("ready", PATIENCE);
    produce(&broker, &requests(0, 20), 1);
    read_replies(&broker, &requests(0, 20));
    let (status, log) = run.ended(PATIENCE);
    assert_eq!(status.code(), Some(70), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("the sink failed: No space left on device"), "{log}");
}

#[test]
fn with_stdio_nothing_is_committed_e9() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pipeline.toml");
    fs::write(&file, pipeline("exactly_once", MAP, "[[sink.stdout]]")).unwrap();
    let mut command = forebay();
    command.args(["run", "--stdio"]).arg(&file);
    for name in ["KAFKA_BROKERS", "REQUESTS_TOPIC", "REPLIES_TOPIC", "CONSUMER_GROUP"] {
        command.env(name, format!("{name}:1"));
    }
    let output = output(&mut command, "1\n2\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n", "{output:?}");
    assert!(output.status.success());
}

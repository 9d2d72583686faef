//! Requests that take too long: the log line, and the end of the run.

use std::time::Duration;

use tempfile::NamedTempFile;

use crate::binary::{Run, Service, forebay};
use crate::broker::Broker;
use crate::clients::{Request, lag, produce, read_replies};

/// Longest wait for anything that is expected, with a margin for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_request_without_an_answer_is_logged_with_its_stage() {
    let broker = Broker::start("stuck");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[source.kafka]\nbrokers = \"${KAFKA_BROKERS}\"\ntopic = \"${REQUESTS_TOPIC}\"\n\
                group = \"${CONSUMER_GROUP}\"\nstuck_after = \"1s\"\n\
                [[step]]\nmap = \".\"\n[[step]]\nname = \"nap\"\ndelay = \"4s\"\n\
                [sink.kafka]\ntopic = \"${REPLIES_TOPIC}\"\n";
    std::fs::write(file.path(), text).unwrap();
    let service = Service::start(forebay().arg("run").arg(file.path()).envs(broker.variables()));
    let requests = [Request { id: "id".into(), key: None, value: Some(b"1".to_vec()) }];
    produce(&broker, &requests, 1);
    read_replies(&broker, &requests);
    let log = service.stop();
    let report = log.lines().find(|line| line.contains("no answer yet")).expect(&log);
    assert!(report.contains("stage=nap") && report.contains(&broker.requests), "{report}");
}

/// Returns a pipeline with this step, whose record makes no progress.
fn stuck_pipeline(delivery: &str, step: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let text = format!(
        "delivery = \"{delivery}\"\n[source.kafka]\nbrokers = \"${{KAFKA_BROKERS}}\"\ntopic = \"${{REQUESTS_TOPIC}}\"\n\
         group = \"${{CONSUMER_GROUP}}\"\nstuck_timeout = \"2s\"\n[[step]]\nmap = \".\"\n[[step]]\nname = \"nap\"\n{step}\n\
         [sink.kafka]\ntopic = \"${{REPLIES_TOPIC}}\"\n"
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_record_that_makes_no_progress_ends_the_run_e9() {
    // The second step does not even let the flow be polled.
    for (delivery, step) in [
        ("at_least_once", "delay = \"1h\""),
        ("at_least_once", "map = \"until(false; .)\""),
        ("exactly_once", "delay = \"1h\""),
    ] {
        let broker = Broker::start("stuck-end");
        if delivery == "exactly_once" && !broker.has_transactions() {
            continue;
        }
        let file = stuck_pipeline(delivery, step);
        let run = Run::start(forebay().arg("run").arg(file.path()).envs(broker.variables()));
        run.await_line("ready", PATIENCE);
        let request = |n: usize| Request {
            id: n.to_string(),
            key: Some(b"key".to_vec()),
            value: Some(n.to_string().into_bytes()),
        };
        produce(&broker, &[request(0), request(1)], 1);
        let (status, log) = run.ended(PATIENCE);
        assert_eq!(status.code(), Some(70), "{step}: {log}");
        let last = log.lines().last().unwrap();
        let (_, partition) = last.split_once(&format!("{}[", broker.requests)).expect(last);
        assert!(partition.as_bytes()[1..].starts_with(b"]@0, "), "{last}");
        for part in ["error: the source failed: ", "for 2s", "it is in `nap`", "`stuck_timeout`"] {
            assert!(last.contains(part), "{part} is not in: {last}");
        }
        assert_eq!(lag(&broker), 2, "they are read again");
    }
}

#[test]
fn a_pipeline_that_makes_progress_does_not_end_e9() {
    let broker = Broker::start("slow");
    let file = stuck_pipeline("at_least_once", "rate_limit = \"500ms\"");
    let service = Service::start(forebay().arg("run").arg(file.path()).envs(broker.variables()));
    let request = |n: usize| Request {
        id: n.to_string(),
        key: Some(n.to_string().into_bytes()),
        value: Some(n.to_string().into_bytes()),
    };
    let requests: Vec<_> = (0..10).map(request).collect();
    produce(&broker, &requests, 1);
    read_replies(&broker, &requests);
    service.stop();
    assert_eq!(lag(&broker), 0);
}

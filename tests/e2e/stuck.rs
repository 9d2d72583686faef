//! The log line about a request that takes too long.

use crate::binary::{Service, forebay};
use crate::broker::Broker;
use crate::clients::{Request, produce, read_replies};

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

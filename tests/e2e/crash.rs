//! A crash: no request is lost, and requests in flight may be answered twice.

use serde_json::json;
use tempfile::NamedTempFile;

use crate::binary::{Service, forebay, root};
use crate::broker::Broker;
use crate::clients::{Request, lag, produce, read_replies};

/// Returns `config/sentiment.toml` with a session timeout of 6 s instead of 45 s, so that the group
/// notices the crash soon.
fn pipeline_with_short_session() -> NamedTempFile {
    let text = std::fs::read_to_string(root().join("config/sentiment.toml")).unwrap();
    let text = text.replace("drain_timeout = \"10s\"", "drain_timeout = \"2s\"").replace(
        "[source.kafka.options]",
        "[source.kafka.options]\n\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"1000\"\n",
    );
    assert!(text.contains("6000") && text.contains("2s"));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_killed_pipeline_loses_no_request() {
    let broker = Broker::start("crash");
    let request = |number: usize| Request {
        id: format!("id-{number}"),
        key: Some(format!("key-{}", number % 7).into_bytes()),
        value: Some(json!({"text": format!("film number {number}")}).to_string().into_bytes()),
    };
    let requests: Vec<_> = (0..2_000).map(request).collect();
    let pipeline = pipeline_with_short_session();
    let run = || Service::start(forebay().arg("run").arg(pipeline.path()).envs(broker.variables()));

    let service = run();
    let (before, after) = requests.split_at(1_000);
    produce(&broker, before, 4);
    // Some requests are answered now, perhaps without a commit. The others are in flight or not
    // read yet.
    read_replies(&broker, &before[..1]);
    service.kill();

    // These requests come after the kill, so only the second service can answer them.
    produce(&broker, after, 4);
    let service = run();
    let replies = read_replies(&broker, &requests);
    service.stop();
    assert!(requests.iter().all(|request| replies.contains_key(&request.id)));
    assert_eq!(lag(&broker), 0);
}

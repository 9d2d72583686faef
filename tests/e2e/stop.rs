//! `policy = "stop"`: after the first failure, the source reads no more, the requests in flight are
//! answered, and the process ends. Exit code and message are the same for every source.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Service, forebay};
use crate::broker::Broker;
use crate::clients::{Request, lag, produce, read_replies};

/// Longest time from the failure to the end of the process, with a margin for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step `double` that fails for a value that is not a number, and the policy.
const STEPS: &str = r#"
[[step]]
name = "double"
map = ". * 2 + 0"
[on_failure]
policy = "stop"
"#;

fn pipeline(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Waits for the end of the process and checks its exit code and its message.
fn ends(mut child: Child, origin: &str) -> String {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the process did not end within {PATIENCE:?}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(70), "{log}");
    let message = log.lines().last().unwrap();
    for part in ["policy = \"stop\"", origin, "jq_error", "(at double)"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    log
}

fn start(file: &NamedTempFile) -> Child {
    let mut command = forebay();
    command.arg("run").arg(file.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_failing_line_ends_the_run_although_standard_input_stays_open() {
    let file = pipeline(&format!("[source.stdin]\n{STEPS}[sink.stdout]\n"));
    let mut child = start(&file);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"1\n2\n\"three\"\n").unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    ends(child, "stdin:3");
    let answers: Vec<_> = answers.lines().map(Result::unwrap).collect();
    assert_eq!(answers, ["2", "4"], "the lines before the failing one are answered");
    drop(input);
}

#[test]
fn a_failing_line_of_a_followed_file_ends_the_run() {
    let input = pipeline("1\n{}\n3\n");
    let path = input.path().display().to_string();
    let source = format!("[source.file]\npath = {path:?}\nfollow = true\n");
    let file = pipeline(&format!("{source}{STEPS}[sink.stdout]\n"));
    ends(start(&file), &format!("{path}:2"));
}

#[test]
fn a_failing_number_of_an_interval_ends_the_run() {
    let steps = STEPS.replace(". * 2 + 0", "if . == 2 then error else . end");
    let file = pipeline(&format!("[source.interval]\nevery = \"10ms\"\n{steps}[sink.stdout]\n"));
    ends(start(&file), "interval:2");
}

#[test]
fn http_requests_in_flight_are_answered_before_the_server_ends() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    // Both requests wait for the window to close, so both are in flight when the first one fails.
    let steps = format!(
        "[[step]]\ntimed_window = {{ interval = \"300ms\" }}\n[[step]]\nflatten = {{}}\n{STEPS}"
    );
    let file = pipeline(&format!("[source.http]\nlisten = \"{address}\"\n{steps}[sink.http]\n"));
    let mut child = start(&file);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.trim_end().ends_with("ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before it was ready");
    }
    let post = |body: &str| {
        let mut client = TcpStream::connect(address).unwrap();
        let length = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.write_all(request.as_bytes()).unwrap();
        client
    };
    let response = |mut client: TcpStream| {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    };
    let failing = post("{}");
    let neighbour = post("4");
    assert!(response(failing).contains("jq_error"));
    let neighbour = response(neighbour);
    assert!(
        neighbour.starts_with("HTTP/1.1 200") && neighbour.ends_with("\r\n\r\n8"),
        "{neighbour}"
    );

    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(70), "{rest}");
    let message = rest.lines().last().unwrap();
    assert!(message.contains("policy = \"stop\"") && message.contains("http:"), "{message}");
}

#[test]
fn a_failing_kafka_record_and_all_records_after_it_stay_uncommitted() {
    for delivery in ["at_least_once", "exactly_once"] {
        let broker = Broker::start(&format!("stop-{delivery}"));
        if delivery == "exactly_once" && !broker.has_transactions() {
            continue;
        }
        let source = format!(
            "delivery = \"{delivery}\"\n[source.kafka]\nbrokers = \"{}\"\ntopic = \"{}\"\ngroup = \"{}\"\n",
            broker.address, broker.requests, broker.group
        );
        let file =
            pipeline(&format!("{source}{STEPS}[sink.kafka]\ntopic = \"{}\"\n", broker.replies));
        // One key, so that all requests are in one partition, in order.
        let request = |number: usize, value: &str| Request {
            id: format!("id-{number}"),
            key: Some(b"key".to_vec()),
            value: Some(value.as_bytes().to_vec()),
        };
        let mut requests: Vec<_> =
            (0..10).map(|number| request(number, &number.to_string())).collect();
        requests[6] = request(6, "\"six\"");
        produce(&broker, &requests, 1);
        let child = start(&file);
        ends(child, &broker.requests);
        let replies = read_replies(&broker, &requests[..6]);
        assert_eq!(lag(&broker), 4, "{delivery}: the failing record and all records after it");
        if delivery == "exactly_once" {
            assert_eq!(replies.len(), 6, "no reply after the failing record is committed");
        }

        // The next pipeline starts where this one stopped, and its step accepts any value.
        let repaired =
            std::fs::read_to_string(file.path()).unwrap().replace(". * 2 + 0", "tostring");
        std::fs::write(file.path(), repaired).unwrap();
        let mut command = forebay();
        let service = Service::start(command.arg("run").arg(file.path()));
        read_replies(&broker, &requests);
        service.stop();
        assert_eq!(lag(&broker), 0);
    }
}

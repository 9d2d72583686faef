//! The metrics and the state of a running pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Run, Service, forebay};

const PATIENCE: Duration = Duration::from_secs(30);

/// Metric names by what they need, from the table of docs/metrics.md.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = include_str!("../../docs/metrics.md");
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `forebay_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        assert!(["counter", "gauge", "histogram"].contains(&cells[2]), "{row}");
        names.entry(cells[4].to_owned()).or_default().insert(format!("{name} {}", cells[2]));
    }
    names
}

/// Returns a free address.
pub(crate) fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Sends one HTTP request and returns the body of the response.
fn http(address: &str, method: &str, path: &str, body: &str) -> String {
    http_status(address, method, path, body).1
}

/// Sends one HTTP request and returns the first line and the body of the response.
fn http_status(address: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// The samples of one reading of `/metrics`.
struct Metrics(String);

impl Metrics {
    /// Returns the sum of the samples of a metric whose labels contain all `labels`.
    #[expect(clippy::cast_possible_truncation, reason = "the tests sum up counts")]
    fn sum(&self, name: &str, labels: &[&str]) -> i64 {
        let samples = self.0.lines().filter(|line| {
            let head = line.split([' ', '{']).next().unwrap();
            head == name && labels.iter().all(|label| line.contains(label))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
            as i64
    }

    /// Returns the number of samples of a metric.
    fn count(&self, name: &str) -> usize {
        self.0.lines().filter(|line| line.split([' ', '{']).next() == Some(name)).count()
    }

    /// Returns the exported metrics, each as its name and type.
    fn names(&self) -> BTreeSet<String> {
        self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect()
    }
}

/// A pipeline with an HTTP source, a text model and two unnamed steps of one kind.
struct Running {
    service: Service,
    source: String,
    pages: String,
    _file: NamedTempFile,
}

impl Running {
    fn start() -> Self {
        let (source, pages) = (free(), free());
        let text = format!(
            r#"
[source.http]
listen = "{source}"
[[step]]
map = "."
[[step]]
filter = ".text != \"skip\""
[[step]]
map = "."
[[step]]
adaptive_window = {{ max_size = 4 }}
[[step]]
map_batch = {{ model = "sentiment" }}
[sink.http]
[model.sentiment]
path = "models/sentiment"
device = "cpu"
"#
        );
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut command = forebay();
        command.args(["run", "--listen", &pages]).arg(file.path());
        Self { service: Service::start(&mut command), source, pages, _file: file }
    }

    /// Sends requests, four at a time.
    fn ask(&self, bodies: &[&str]) {
        for four in bodies.chunks(4) {
            std::thread::scope(|scope| {
                for body in four {
                    scope.spawn(|| http(&self.source, "POST", "/", body));
                }
            });
        }
    }

    fn metrics(&self) -> Metrics {
        Metrics(http(&self.pages, "GET", "/metrics", ""))
    }

    /// Returns the metrics once `count` requests are counted.
    fn after(&self, count: i64) -> Metrics {
        let start = Instant::now();
        loop {
            let metrics = self.metrics();
            if metrics.sum("forebay_requests_total", &[]) >= count {
                return metrics;
            }
            assert!(start.elapsed() < PATIENCE, "{}", metrics.0);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn each_request_counts_once_and_every_step_balances() {
    let running = Running::start();
    let good = [r#"{"text": "a fine film"}"#; 30];
    let bad = ["not JSON", r#"{"txt": 1}"#, r#"{"text": 7}"#];
    running.ask(&[&good[..], &bad[..], &good[..10]].concat());
    let metrics = running.after(43);

    assert_eq!(metrics.sum("forebay_requests_total", &["outcome=\"result\""]), 40);
    assert_eq!(metrics.sum("forebay_requests_total", &["outcome=\"error\""]), 3, "{}", metrics.0);
    assert_eq!(metrics.sum("forebay_requests_total", &["code=\"invalid_json\""]), 1);
    assert_eq!(metrics.sum("forebay_step_failed_total", &["step=\"decode\""]), 1);
    for histogram in ["forebay_request_seconds_count", "forebay_request_delivery_seconds_count"] {
        assert_eq!(metrics.sum(histogram, &[]), 40, "{histogram}: {}", metrics.0);
    }
    assert_eq!(metrics.sum("forebay_model_inputs_total", &[]), 40);
    assert_eq!(metrics.sum("forebay_batch_size_sum", &[]), 40);
    let batches = metrics.sum("forebay_batches_total", &[]);
    assert_eq!(metrics.sum("forebay_batch_size_count", &[]), batches);
    assert_eq!(metrics.sum("forebay_model_batch_seconds_count", &[]), batches);
    assert!(metrics.sum("forebay_batch_elements_total", &[]) >= 40 * 5);
    assert_eq!(metrics.sum("forebay_batch_padding_total", &[]), 0, "the CPU pads no batch");

    assert_eq!(metrics.sum("forebay_step_received_total", &["step=\"map\""]), 42);
    assert_eq!(metrics.sum("forebay_step_received_total", &["step=\"map-2\""]), 42);
    assert_eq!(metrics.count("forebay_step_received_total"), metrics.count("forebay_step_inside"));
    assert_eq!(metrics.sum("forebay_step_inside", &[]), 0, "{}", metrics.0);
    let state: Value =
        serde_json::from_str(&http(&running.pages, "GET", "/state.json", "")).unwrap();
    let mut checked = 0;
    for step in state["steps"].as_array().unwrap() {
        let number = |name: &str| step[name].as_i64().unwrap();
        if ["source", "sink"].contains(&step["kind"].as_str().unwrap()) {
            continue;
        }
        let failed: i64 =
            step["failed"].as_object().unwrap().values().filter_map(Value::as_i64).sum();
        let came = number("received") + number("made");
        assert_eq!(came, number("emitted") + failed + number("discarded"), "{step}");
        assert!(came > 0, "{step}");
        checked += 1;
    }
    assert!(checked >= 8, "{state}");
    assert_eq!(state["answers"]["results"], 40, "{state}");
    let codes: Vec<_> =
        state["failures"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert!(codes.contains(&&Value::from("invalid_json")) && codes.len() == 3, "{state}");
    running.service.stop();
}

#[test]
fn probes_tell_what_the_process_waits_for_and_when_it_takes_requests() {
    let pages = free();
    let text = format!(
        "max_lifetime = \"3s\"\n[source.http]\nlisten = \"{}\"\n[[step]]\nmap = \".\"\n[sink.http]\n",
        free()
    );
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let ready_file = folder.path().join("ready");
    let mut command = forebay();
    command.args(["run", "--listen", &pages, "--ready-file"]).arg(&ready_file).arg(file.path());
    let started = Instant::now();
    let service = Run::start(command.env("NOTIFY_SOCKET", &socket));
    service.await_line("ready", PATIENCE);
    assert_eq!(http(&pages, "GET", "/livez", "").trim(), "alive");
    assert_eq!(http(&pages, "GET", "/readyz", "").trim(), "ready");
    assert!(ready_file.exists());

    let (status, log) = service.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(started.elapsed() >= Duration::from_secs(3), "{log}");
    assert!(log.contains("max_lifetime is over"), "{log}");
    assert!(!ready_file.exists());
    let mut heard = Vec::new();
    let mut buffer = [0; 200];
    systemd.set_nonblocking(true).unwrap();
    while let Ok(length) = systemd.recv(&mut buffer) {
        heard.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    assert_eq!(heard, ["READY=1", "STOPPING=1"]);
}

#[test]
fn a_group_without_a_broker_is_alive_and_not_ready() {
    let pages = free();
    let text = format!(
        "[source.kafka]\nbrokers = \"{}\"\ntopic = \"t\"\ngroup = \"g\"\n[sink.stdout]\n",
        free()
    );
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = forebay();
    command.args(["run", "--listen", &pages]).arg(file.path());
    let service = Run::start(&mut command);
    service.await_line("serving the pages", PATIENCE);
    assert_eq!(http(&pages, "GET", "/livez", "").trim(), "alive");
    let unready = http_status(&pages, "GET", "/readyz", "");
    assert!(unready.0.contains("503") && !unready.1.trim().is_empty(), "{unready:?}");
    service.stop();
}

#[test]
fn docs_metrics_md_lists_what_a_pipeline_exports() {
    let running = Running::start();
    running.ask(&[r#"{"text": "a fine film"}"#, "not JSON"]);
    let exported = running.after(2).names();
    let documented = documented();
    let of = |needs: &[&str]| -> BTreeSet<String> {
        needs.iter().flat_map(|need| documented[*need].clone()).collect()
    };
    let expected = of(&["every run", "timestamps", "failures", "window", "model", "text model"]);
    let missing: Vec<_> = expected.difference(&exported).collect();
    assert!(missing.is_empty(), "documented, and not exported: {missing:?}");
    let unknown: Vec<_> = exported.difference(&expected).collect();
    assert!(unknown.is_empty(), "exported, and not documented: {unknown:?}");
    running.service.stop();
}

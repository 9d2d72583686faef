//! Kafka as it is deployed: brokers that go away or advertise wrong addresses, groups with other
//! members, topics that are deleted. The names of the tests end in the kind of trouble.
//!
//! These tests need a real Kafka, and some start one of their own with `scripts/kafka.sh`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::binary::{Run, forebay, root};
use crate::broker::Broker;
use crate::clients::{Request, produce, read_replies};
use crate::errors::{Parts, assert_has};

/// Longest wait for anything that is expected, with a margin for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const PIPELINE: &str = r#"
[source.kafka]
brokers = "${KAFKA_BROKERS}"
topic = "${REQUESTS_TOPIC}"
group = "${CONSUMER_GROUP}"
[source.kafka.options]
"session.timeout.ms" = "${SESSION_TIMEOUT:-6000}"
[[step]]
map = "."
[sink.kafka]
topic = "${REPLIES_TOPIC}"
"#;

/// A pipeline that runs, with its files.
struct Pipeline {
    run: Run,
    ready: std::path::PathBuf,
    _files: TempDir,
}

impl Pipeline {
    fn start(text: &str, variables: &[(&str, &str)]) -> Self {
        let files = TempDir::new().unwrap();
        let file = files.path().join("pipeline.toml");
        let ready = files.path().join("ready");
        std::fs::write(&file, text).unwrap();
        let mut command = forebay();
        command.arg("run").arg("--ready-file").arg(&ready).arg(&file);
        command.env_remove("FOREBAY_LOG").envs(variables.iter().copied());
        Self { run: Run::start(&mut command), ready, _files: files }
    }

    fn is_ready(&self) -> bool {
        self.ready.exists()
    }

    fn await_ready(&self) {
        self.run.await_line("ready", PATIENCE);
        assert!(self.is_ready());
    }

    /// Checks that the pipeline ends with this exit code, without having been ready, and with a last
    /// line that has these parts. Returns the log.
    fn fails(self, code: i32, parts: Parts<'_>) -> String {
        let (status, log) = self.run.ended(PATIENCE);
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(!self.ready.exists(), "{log}");
        assert_has(log.lines().last().unwrap_or_default(), parts);
        log
    }
}

/// Returns a broker with topics, if it is a real Kafka.
fn real_broker(test: &str) -> Option<Broker> {
    let broker = Broker::start(test);
    broker.has_transactions().then_some(broker)
}

/// A Kafka of one broker that belongs to one test. Only one runs at a time.
struct Cluster {
    dir: TempDir,
    port: u16,
    _one: MutexGuard<'static, ()>,
}

impl Cluster {
    /// The second port is that of a listener whose advertised port, the next one, is free.
    fn start() -> Option<(Self, Broker, u16)> {
        static ONE: Mutex<()> = Mutex::new(());
        if std::env::var_os("KAFKA_BROKERS").is_none() {
            eprintln!("skipped: starts a Kafka of its own only if KAFKA_BROKERS is set, too");
            return None;
        }
        let one = ONE.lock();
        let port = free_ports();
        let cluster = Self { dir: TempDir::new().unwrap(), port, _one: one };
        let port = port.to_string();
        let proxied = (cluster.port + 2).to_string();
        cluster.script("start", &["--port", &port, "--proxied", &proxied]);
        let broker = Broker::at(format!("127.0.0.1:{port}"), "cluster");
        let proxied = cluster.port + 2;
        Some((cluster, broker, proxied))
    }

    fn script(&self, command: &str, arguments: &[&str]) {
        let mut script = Command::new("scripts/kafka.sh");
        script.arg(command).arg("--dir").arg(self.dir.path()).args(arguments);
        let status = script.current_dir(root()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "kafka.sh {command}: {status}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("stop", &[]);
    }
}

/// Returns the first of four ports in a row that are free.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 21_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    let mut candidates = (start..32_000).step_by(4);
    candidates.find(|port| (0..4).all(|more| free(port + more))).expect("four free ports")
}

fn requests(numbers: Range<usize>) -> Vec<Request> {
    let request = |n: usize| Request {
        id: n.to_string(),
        key: None,
        value: Some(format!("{{\"n\": {n}}}").into_bytes()),
    };
    numbers.map(request).collect()
}

/// Waits although there is nothing to wait for: to see that nothing happens.
fn pause(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::park_timeout(until - Instant::now());
    }
}

fn delete(broker: &Broker, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let deleted = runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

#[test]
fn an_advertised_address_that_does_not_answer_is_named_c1() {
    let Some((_cluster, broker, proxied)) = Cluster::start() else { return };
    let asked = format!("127.0.0.1:{proxied}");
    let advertised = format!("127.0.0.1:{}", proxied + 1);
    let named = format!("{asked} advertises {advertised}");
    let parts = |detail| Parts {
        cause: detail,
        place: &named,
        remedy: "set `advertised.listeners` of the brokers to addresses that this machine can reach",
    };
    let mut variables = broker.variables();
    variables[0].1 = &asked;

    let refused = Pipeline::start(PIPELINE, &variables);
    let log = refused.fails(69, parts("Connection refused"));
    assert!(log.lines().count() < 5, "{log}");

    // A neighbour of the same kind: connections are accepted, and nothing answers.
    let _silent = TcpListener::bind(&advertised).unwrap();
    let silent = Pipeline::start(PIPELINE, &variables);
    let log = silent.fails(69, parts("no answer within"));
    assert!(log.lines().count() < 5, "{log}");
}

/// A member of a group that assigns partitions with another strategy.
struct Eager {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Eager {
    fn join(broker: &Broker) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &broker.address)
            .set("group.id", &broker.group)
            .set("partition.assignment.strategy", "range")
            .create()
            .unwrap();
        consumer.subscribe(&[&broker.requests]).unwrap();
        while consumer.assignment().unwrap().count() == 0 {
            consumer.poll(Duration::from_millis(100));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                consumer.poll(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_group_whose_members_use_another_strategy_is_named_once_c2() {
    let Some(broker) = real_broker("strategy") else { return };
    let eager = Eager::join(&broker);
    let pipeline = Pipeline::start(PIPELINE, &broker.variables());
    let refusal = "the group refuses this member";
    let line = pipeline.run.await_line(refusal, PATIENCE);
    let place = format!("group={}", broker.group);
    let cause = "its other members do not use cooperative-sticky";
    let remedy = "such as a `kcat -G`; stop it, or set its strategy among the options";
    assert_has(&line, Parts { cause, place: &place, remedy });
    // The member tries again every two seconds.
    pause(Duration::from_secs(9));
    assert_eq!(pipeline.run.log().matches(refusal).count(), 1, "{}", pipeline.run.log());
    assert!(!pipeline.is_ready(), "{}", pipeline.run.log());
    drop(eager);
    pipeline.await_ready();
    pipeline.run.stop();
}

/// A neighbour of the same kind.
#[test]
fn a_session_timeout_that_the_brokers_do_not_allow_is_named_once_c2() {
    let Some(broker) = real_broker("session") else { return };
    let mut variables = broker.variables().to_vec();
    variables.push(("SESSION_TIMEOUT", "500"));
    let pipeline = Pipeline::start(PIPELINE, &variables);
    let line = pipeline.run.await_line("the group refuses this member", PATIENCE);
    let place = format!("group={}", broker.group);
    let cause = "the brokers do not allow this `session.timeout.ms`";
    let remedy = "see their `group.min.session.timeout.ms`";
    assert_has(&line, Parts { cause, place: &place, remedy });
    assert!(!pipeline.is_ready());
    pipeline.run.stop();
}

#[test]
fn a_topic_of_requests_that_is_deleted_is_named_and_read_again_c8() {
    let Some(broker) = real_broker("deleted-requests") else { return };
    let pipeline = Pipeline::start(PIPELINE, &broker.variables());
    pipeline.await_ready();
    delete(&broker, &broker.requests);
    let gone = "the topic that the source reads does not exist any more";
    let line = pipeline.run.await_line(gone, Duration::from_secs(15));
    let place = format!("topic={}", broker.requests);
    let remedy = "the source waits until it is created again";
    assert_has(&line, Parts { cause: "does not exist any more", place: &place, remedy });
    broker.create(&broker.requests);
    produce(&broker, &requests(0..3), 1);
    assert_eq!(read_replies(&broker, &requests(0..3)).len(), 3);
    let log = pipeline.run.stop();
    assert_eq!(log.matches(gone).count(), 1, "{log}");
}

#[test]
fn a_topic_of_replies_that_is_deleted_ends_the_sink_c8() {
    let Some(broker) = real_broker("deleted-replies") else { return };
    let exactly_once = format!("delivery = \"exactly_once\"\n{PIPELINE}");
    for text in [PIPELINE, &exactly_once] {
        let pipeline = Pipeline::start(text, &broker.variables());
        pipeline.await_ready();
        delete(&broker, &broker.replies);
        produce(&broker, &requests(0..1), 1);
        let (status, log) = pipeline.run.ended(PATIENCE);
        assert_eq!(status.code(), Some(70), "{log}");
        let place = format!("the sink failed: the topic \"{}\"", broker.replies);
        let parts =
            Parts { cause: "does not exist any more", place: &place, remedy: "create it again" };
        assert_has(log.lines().last().unwrap_or_default(), parts);
        broker.create(&broker.replies);
    }
}

#[test]
fn a_broker_that_goes_away_is_one_line_and_its_return_another_c9() {
    let Some((cluster, broker, _)) = Cluster::start() else { return };
    let other = broker.topic("other");
    let exactly_once = format!("delivery = \"exactly_once\"\n{PIPELINE}");
    let mut variables = broker.variables();
    let pipeline = Pipeline::start(PIPELINE, &variables);
    variables[1].1 = &other;
    variables[3].1 = "other";
    // A neighbour of the same kind: a producer with transactions.
    let transactions = Pipeline::start(&exactly_once, &variables);
    pipeline.await_ready();
    transactions.await_ready();
    produce(&broker, &requests(0..10), 1);
    read_replies(&broker, &requests(0..10));
    for run in [&pipeline.run, &transactions.run] {
        run.take_log();
    }
    for command in ["broker-kill", "broker-stop"] {
        cluster.script(command, &["--broker", "1"]);
        pipeline.run.await_line("no connection to a broker", PATIENCE);
        pause(Duration::from_secs(6));
        cluster.script("broker-start", &["--broker", "1"]);
        for run in [&pipeline.run, &transactions.run] {
            run.await_line("connected to the broker again", PATIENCE);
            let log = run.take_log();
            for part in ["no connection to a broker", "connected to the broker again"] {
                assert_eq!(log.matches(part).count(), 1, "{command}: {log}");
            }
            let address = format!("broker=\"{}\"", broker.address);
            assert_eq!(log.matches(&address).count(), 2, "{command}: {log}");
            // Besides these two: the group, a transaction that failed, and that it goes on.
            assert!(log.lines().count() < 16, "{command}: {log}");
        }
    }
    produce(&broker, &requests(10..20), 1);
    assert_eq!(read_replies(&broker, &requests(0..20)).len(), 20);
    pipeline.run.stop();
    transactions.run.stop();
}

#[test]
fn a_port_that_is_not_a_brokers_is_named_c10() {
    let Some(broker) = real_broker("port") else { return };
    // The controller of `scripts/kafka.sh` listens at the port after the broker's.
    let (host, port) = broker.address.split(',').next().unwrap().rsplit_once(':').unwrap();
    let controller = format!("{host}:{}", port.parse::<u16>().unwrap() + 1);
    let mut variables = broker.variables();
    variables[0].1 = &controller;
    let remedy = "use the port of a broker, which its `listeners` name";
    let parts = Parts { cause: "a KRaft controller answers like this", place: &controller, remedy };
    Pipeline::start(PIPELINE, &variables).fails(69, parts);

    // A neighbour of the same kind: an HTTP server.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            // The request is not HTTP, so it is answered before it is complete.
            stream.read_exact(&mut [0; 4]).ok();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    variables[0].1 = &address;
    let remedy = "use the port of Kafka's own protocol";
    let parts = Parts { cause: "it speaks HTTP", place: &address, remedy };
    Pipeline::start(PIPELINE, &variables).fails(69, parts);
}

#[test]
fn a_signal_while_the_brokers_are_asked_ends_the_run_at_once_c11() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    // Nothing listens at port 1. The other address accepts connections and does not answer.
    for address in ["127.0.0.1:1", &silent] {
        let variables = [
            ("KAFKA_BROKERS", address),
            ("REQUESTS_TOPIC", "requests"),
            ("REPLIES_TOPIC", "replies"),
            ("CONSUMER_GROUP", "group"),
        ];
        let pipeline = Pipeline::start(PIPELINE, &variables);
        pipeline.run.await_line("starting", PATIENCE);
        // Long enough for the first attempt.
        pause(Duration::from_millis(700));
        pipeline.run.signal("TERM");
        let (status, log) = pipeline.run.ended(Duration::from_secs(3));
        assert!(status.success(), "{status}: {log}");
    }
}

/// A neighbour of the same kind.
#[test]
fn a_signal_while_the_group_refuses_the_member_ends_the_run_at_once_c11() {
    let Some(broker) = real_broker("refused") else { return };
    let _eager = Eager::join(&broker);
    let pipeline = Pipeline::start(PIPELINE, &broker.variables());
    pipeline.run.await_line("the group refuses this member", PATIENCE);
    pipeline.run.signal("TERM");
    let (status, log) = pipeline.run.ended(Duration::from_secs(8));
    assert!(status.success(), "{status}: {log}");
}

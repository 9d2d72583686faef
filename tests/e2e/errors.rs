//! The errors of the command line: each names the cause, the place, and what to do.
//!
//! A test holds the three parts of each message separately. A case that is a neighbour is a mistake
//! of the same kind as the others of its row, and each row has one.

mod hub;
mod model;
mod pipeline_file;
mod request;
mod start;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;
use std::thread;

/// The parts of an error message.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) cause: &'a str,
    /// The line, setting, address, file or topic.
    pub(crate) place: &'a str,
    pub(crate) remedy: &'a str,
}

impl Parts<'_> {
    /// Returns what is wrong with a message that should have these parts, none of which may be a
    /// part of another one.
    pub(crate) fn missing_in(&self, message: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut taken: Vec<std::ops::Range<usize>> = Vec::new();
        for (name, part) in [("cause", self.cause), ("place", self.place), ("remedy", self.remedy)]
        {
            let found =
                message.match_indices(part).map(|(at, _)| at..at + part.len()).find(|range| {
                    taken.iter().all(|of| range.end <= of.start || of.end <= range.start)
                });
            match found {
                Some(range) => taken.push(range),
                None => wrong.push(format!("no {name} {part:?}")),
            }
        }
        wrong
    }
}

/// Asserts that a message has these parts.
#[track_caller]
pub(crate) fn assert_has(message: &str, parts: Parts<'_>) {
    let missing = parts.missing_in(message);
    assert!(missing.is_empty(), "{missing:?}: {message}");
}

/// A mistake and the message that it should give.
struct Case<I> {
    row: &'static str,
    is_neighbour: bool,
    input: I,
    parts: Parts<'static>,
}

fn case<I>(row: &'static str, input: I, [cause, place, remedy]: [&'static str; 3]) -> Case<I> {
    Case { row, is_neighbour: false, input, parts: Parts { cause, place, remedy } }
}

fn neighbour<I>(row: &'static str, input: I, parts: [&'static str; 3]) -> Case<I> {
    Case { is_neighbour: true, ..case(row, input, parts) }
}

/// Gives each case to `run`, which returns the message and, if something else is wrong, a
/// description of it. Fails with all that is wrong, and if a row has no case or no neighbour.
fn explain<I>(cases: &[Case<I>], mut run: impl FnMut(&I) -> (String, Option<String>)) {
    let mut rows: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Case { row, is_neighbour, input, parts } in cases {
        rows.entry(row).or_default()[usize::from(*is_neighbour)] = true;
        let (message, other) = run(input);
        let mut missing = parts.missing_in(&message);
        missing.extend(other);
        if !missing.is_empty() {
            wrong.push(format!("{row}: {}\n{message}", missing.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    for (row, [has_case, has_neighbour]) in rows {
        assert!(has_case && has_neighbour, "{row} has no case or no neighbour");
    }
}

fn exits_with(output: &Output, code: i32) -> Option<String> {
    (output.status.code() != Some(code)).then(|| format!("{}, not {code}", output.status))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn step(step: &str) -> String {
    format!("[source.stdin]\n[[step]]\n{step}\n[sink.stdout]\n")
}

fn kafka(settings: &str) -> String {
    format!(
        "[source.kafka]\nbrokers = \"kafka:9092\"\ntopic = \"in\"\ngroup = \"g\"\n{settings}\n[sink.stdout]\n"
    )
}

fn options(options: &str) -> String {
    kafka(&format!("[source.kafka.options]\n{options}"))
}

fn brokers(brokers: &str) -> String {
    kafka("").replace("kafka:9092", brokers)
}

fn listen(address: &str) -> String {
    format!("[source.http]\nlisten = \"{address}\"\n[sink.http]\n")
}

const MODEL: &str = r#"
[source.stdin]
[[step]]
partition = { size = 64, timeout = "10ms" }
[[step]]
map_batch = { model = "m" }
[sink.stdout]
[model.m]
path = "m"
device = "cpu"
"#;

fn model(settings: &str) -> String {
    format!("{MODEL}{settings}\n")
}

/// Answers every connection with the same bytes, whatever it sends.
fn answer_with(server: TcpListener, answer: &'static str) {
    thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 4]).ok();
            stream.write_all(answer.as_bytes()).ok();
        }
    });
}

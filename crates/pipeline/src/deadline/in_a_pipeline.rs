//! Deadlines in a pipeline: a late request is answered with an error and never reaches the model.

use parking_lot::Mutex;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_stream::{Batch, Event, Flow, Header, Meta, Receipt};
use futures::stream;
use tokio_util::sync::CancellationToken;

use crate::assemble::{Assembler, Taps};
use crate::counts::Counts;
use crate::json::Json;
use crate::plan::Plan;
use crate::record::Record;
use crate::task::Task;

const FILE: &str = r#"
[source.kafka]
brokers = "nowhere:9092"
topic = "requests"
group = "g"
[[step]]
partition = { size = 3 }
[[step]]
map_batch = { model = "m" }
[sink.kafka]
topic = "replies"
[model.m]
path = "m"
"#;

/// A clock that advances by a millisecond each time it is read. The pipeline reads it twice for a
/// request with a deadline: when the request arrives, and before the request is handed to the
/// model.
static CLOCK: AtomicU64 = AtomicU64::new(0);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(CLOCK.fetch_add(1, Ordering::Relaxed) + 1)
}

fn request(number: u8, deadline: Option<&'static str>) -> Event<Record> {
    let value = deadline.map(|deadline| deadline.as_bytes().into());
    let header = Header { name: "forebay-deadline-ms".to_owned(), value };
    let meta = Meta { key: Some(vec![number].into()), headers: vec![header], ..Meta::default() };
    let value = Record::Bytes(Some(number.to_string().into()));
    Event { value, meta: meta.into(), receipt: Receipt::detached() }
}

#[tokio::test(start_paused = true)]
async fn a_late_request_gets_an_error_without_a_call_of_the_model() {
    let mut plan = Plan::parse(Path::new("test.toml"), FILE, &|_| None).unwrap();
    plan.deadlines.now = now;
    let requests = [
        request(0, None),
        // Arrives at 1 and would be handed to the model at 3. That is its deadline, so it is late.
        request(1, Some("3")),
        // Arrives at 2 and is handed to the model at 4, before its deadline.
        request(2, Some("5")),
        // The three requests of a batch. They arrive in time, at 5 to 7, but would be handed to the
        // model at 8 to 10, which is too late for all of them.
        request(3, Some("6")),
        request(4, Some("7")),
        request(5, Some("8")),
        // Arrives at 11. That is its deadline, so it is late.
        request(6, Some("11")),
        request(7, Some("tomorrow")),
        request(8, Some("99999999999999999999999")),
    ];
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let model = Task::Json(Arc::new(move |batch: Batch<Json>| {
        log.lock().push(batch.iter().map(ToString::to_string).collect::<Vec<_>>());
        Box::pin(std::future::ready(Ok(batch.iter().cloned().map(Ok).collect())))
    }));
    let records =
        vec![Flow::from_try_events("requests", stream::iter(requests.map(Ok::<_, Infallible>)))];
    let task = |_: &str| model.clone();
    let counts = Counts::default();
    let taps = &mut Taps::new();
    let stop = CancellationToken::new();
    let assembler = Assembler { plan: &plan, task: &task, counts: &counts, taps, stop: &stop };
    let answers = assembler.assemble(records);
    let answers = answers.answers.into_iter().next().unwrap().collect().await.unwrap();

    assert_eq!(*calls.lock(), [vec!["0", "2"], vec!["8"]]);
    let mut codes: Vec<_> = answers.iter().filter_map(|answer| answer.error.as_deref()).collect();
    codes.sort_unstable();
    let late = "deadline_exceeded";
    assert_eq!(codes, [late, late, late, late, late, "invalid_deadline"]);
    assert_eq!(answers.len(), 9);
    let shown = String::from_utf8_lossy(&answers.last().unwrap().value).into_owned();
    assert_eq!(shown, "8");
}

#[test]
fn headers_have_the_names_that_the_file_gives() {
    let named = |table: &str| {
        let plan = Plan::parse(Path::new("test.toml"), &format!("{FILE}{table}"), &|_| None);
        plan.map(|plan| (plan.deadlines.header, plan.deadlines.timeout_header))
            .map_err(|error| error.to_string())
    };
    let pair = |at: &str, after: &str| Ok((at.to_owned(), after.to_owned()));
    assert_eq!(named(""), pair("forebay-deadline-ms", "forebay-timeout-ms"));
    assert_eq!(
        named("[deadline]\nheader = \"until\"\ntimeout_header = \"ttl\""),
        pair("until", "ttl")
    );
    let error = named("[deadline]\nheader = \"\"").unwrap_err();
    assert!(error.contains("a header's name must not be empty"), "{error}");
    let error = named("[deadline]\nheadr = \"x\"").unwrap_err();
    assert!(error.contains("headr"), "{error}");
}

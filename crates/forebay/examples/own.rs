//! A custom operator, source, sink and model, all used from a pipeline file.
//!
//!     cargo run --example own

use std::convert::Infallible;
use std::path::Path;

use forebay::model::Model;
use forebay::pipeline::{Answer, Json, Plan, Registry};
use forebay::stream::{Event, Failure, Flow, Sink, Source};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const FILE: &str = r#"
[source.countdown]                 # the source below, with its settings
from_number = 5

[[step]]
every_other = {}                   # the operator below

[[step]]
adaptive_window = { max_size = 8 }

[[step]]
map_batch = { model = "romans" }

[sink.shout]                       # the sink below
mark = "!"

[model.romans.numerals]            # the model below; this file calls it `romans`
zero = "nulla"
"#;

/// The settings of `[source.countdown]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Countdown {
    from_number: u64,
}

struct Numbers(std::iter::Rev<std::ops::RangeInclusive<u64>>);

impl Source<Json> for Numbers {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Event<Json>>, Infallible> {
        // These events are detached, because nothing needs their outcomes. A source that commits or
        // acknowledges its inputs creates events with `Receipt::new`.
        Ok(self.0.next().and_then(|number| Json::encode(&number).ok()).map(Event::detached))
    }
}

/// The settings of the step `every_other = {}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EveryOther {}

fn every_other(_: &EveryOther, flow: Flow<Json>) -> Flow<Json> {
    let mut odd = false;
    flow.filter(move |_| {
        odd = !odd;
        odd
    })
}

/// The settings of `[model.NAME.numerals]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numerals {
    zero: String,
}

struct Romans(String);

impl Model for Romans {
    type Input = Json;
    type Output = Json;

    fn infer(&mut self, batch: &[Json]) -> Result<Vec<Result<Json, Failure>>, Failure> {
        let numeral = |number: &Json| {
            let text = match number.decode::<u64>()? {
                0 => self.0.clone(),
                number @ 1..=3 => "I".repeat(usize::try_from(number).unwrap_or_default()),
                4 => "IV".to_owned(),
                5 => "V".to_owned(),
                number => return Err(Failure::new("too_large", number)),
            };
            Json::encode(&text)
        };
        Ok(batch.iter().map(numeral).collect())
    }
}

/// The settings of `[sink.shout]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shout {
    mark: String,
}

impl Sink<Answer> for Shout {
    type Error = Infallible;

    async fn send(&mut self, event: Event<Answer>) -> Result<(), Infallible> {
        println!("{}{}", String::from_utf8_lossy(&event.value.value), self.mark);
        event.receipt.done();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::new()
        .source("countdown", |settings: &Countdown| {
            Ok::<_, Infallible>(Numbers((0..=settings.from_number).rev()))
        })
        .step("every_other", every_other)
        .model("numerals", |settings: &Numerals| Ok::<_, Infallible>(Romans(settings.zero.clone())))
        .sink("shout", |settings: &Shout| Ok::<_, Infallible>(settings.clone()));

    let plan = Plan::parse_with(Path::new("own.toml"), FILE, &|_| None, &registry)?;
    let summary = plan.run(CancellationToken::new(), |_| {}).await?;
    // Every other number from 5 to 0 is answered: 5, 3 and 1.
    anyhow::ensure!(summary.answers == 3 && summary.errors == 0, "{summary:?}");
    Ok(())
}

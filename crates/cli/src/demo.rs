//! `forebay demo`: sends requests through an embedded Kafka broker and a model, and compares
//! batched and one-by-one throughput.

mod chart;

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use forebay_kafka::Response;
use serde_json::Value;

use self::chart::Point;
use crate::comparison::{Comparison, Setting};
use crate::load::Load;
use crate::print::line;
use crate::running::{Pipelines, Running};
use crate::sentiment::{self, LabelledText, ModelArgs};
use crate::{exit, profile, progress, signals};

/// Send requests through an embedded Kafka broker and a sentiment model, and compare batched with
/// one by one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Numbers of clients to measure with. Each client sends its next request when the last one is
    /// answered
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100,500",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// Number of replies to print
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// Keep serving afterwards, so that any Kafka client can send requests
    #[arg(long)]
    serve: bool,
}

/// Number of concurrent requests while replies are printed.
const FIRST_CLIENTS: usize = 16;
/// Target duration of one measurement. A measurement takes longer if answering one request of each
/// client takes longer.
const MEASURED: Duration = Duration::from_millis(600);

pub(crate) fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let setting = Setting::embedded()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    let shown = runtime.block_on(async {
        let pipelines = Pipelines::new(signals::stop_token()?);
        let mut serving = false;
        let shown = pipelines.run_until_stopped(show(args, &setting, &pipelines, &mut serving));
        let shown = shown.await.transpose()?;
        anyhow::Ok(shown.is_some() || serving)
    });
    drop(runtime);
    drop(setting);
    if shown? {
        return Ok(ExitCode::SUCCESS);
    }
    line("interrupted")?;
    Ok(exit::INTERRUPTED.into())
}

async fn show(
    args: &Args,
    setting: &Setting,
    pipelines: &Pipelines,
    serving: &mut bool,
) -> anyhow::Result<()> {
    let brokers = setting.brokers();
    line(format_args!("Kafka    {brokers} (embedded: in memory, 5 MiB a partition)"))?;
    let Comparison { mut batched, mut one_by_one } = setting.start(&args.model, pipelines).await?;
    // For example `models/sentiment (bert, text-classification) on cpu: as asked`.
    let (model, device) =
        batched.description.split_once(" on ").unwrap_or((&batched.description, ""));
    line(format_args!("Model    {model}\nDevice   {device}\nBuild    {}\n", profile::describe()))?;

    show_replies(&mut batched, args.rows).await?;

    let bar = progress::bar(args.concurrency.len() as u64 * 2, "measuring");
    let mut points = Vec::new();
    for &clients in &args.concurrency {
        let batched = rate(&mut batched, clients as usize).await?;
        bar.inc(1);
        let one_by_one = rate(&mut one_by_one, clients as usize).await?;
        bar.inc(1);
        points.push(Point { clients, batched, one_by_one });
    }
    bar.finish_and_clear();
    line(chart::draw(&points))?;

    if args.serve {
        *serving = true;
        show_serving(setting)?;
        return Err(batched.ended().await);
    }
    line("Your Kafka   KAFKA_BROKERS=host:9092 forebay run config/sentiment.toml")?;
    line("Your model   set its directory as `path` in that file: docs/models.md")?;
    line("Read next    README.md, and docs/operators.md for all steps of a pipeline file")
}

/// Sends every text once, prints `rows` of the replies, and prints how many of the labels are the
/// same as those that a person gave.
async fn show_replies(running: &mut Running, rows: usize) -> anyhow::Result<()> {
    let texts = sentiment::texts().len();
    if rows > 0 {
        line(format_args!("{:<9} {:>5}  {:>8}  text", "label", "score", "latency"))?;
    }
    let printed = Cell::new(0);
    let agreeing = Cell::new(0);
    let load = Load { requests: texts, concurrency: FIRST_CLIENTS };
    running
        .load(load, |text, response, latency| {
            let reply = parse(response);
            if reply["label"] == text.label {
                agreeing.set(agreeing.get() + 1);
            }
            if printed.get() < rows {
                printed.set(printed.get() + 1);
                // If standard output is closed, printing the line after the load fails as well.
                line(row(text, &reply, latency)).ok();
            }
        })
        .await?;
    let more = texts.saturating_sub(rows);
    let after = if rows > 0 && more > 0 { format!("and {more} more: ") } else { String::new() };
    line(format_args!("{after}{} of {texts} labels agree with a person's\n", agreeing.get()))
}

/// Measures the replies per second with this number of clients.
async fn rate(running: &mut Running, clients: usize) -> anyhow::Result<f64> {
    let first = Load { requests: clients.min(64), concurrency: clients.min(64) };
    let expected = running.warm_up(first).await?.per_second();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and far below 2^52"
    )]
    let requests = (expected * MEASURED.as_secs_f64()) as usize;
    let load = Load { requests: requests.max(clients), concurrency: clients };
    Ok(running.load(load, |_, _, _| {}).await?.per_second())
}

fn parse(response: &Response) -> Value {
    let value = response.value.as_deref();
    value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
}

/// Returns one reply as a line of at most 80 columns.
fn row(text: LabelledText, reply: &Value, latency: Duration) -> String {
    const TEXT: usize = 53;
    let text = text.text;
    let mut shown: String = text.chars().take(TEXT).collect();
    if shown.len() < text.len() {
        shown.pop();
        shown.push('…');
    }
    match (reply["label"].as_str(), reply["score"].as_f64()) {
        (Some(label), Some(score)) => {
            let millis = latency.as_secs_f64() * 1e3;
            format!("{label:<9} {score:>5.3}  {millis:>5.1} ms  {shown}")
        }
        _ => format!("{reply}"),
    }
}

fn show_serving(setting: &Setting) -> anyhow::Result<()> {
    let (requests, replies) = setting.batched_topics();
    let brokers = setting.brokers();
    line("Serving until Ctrl-C. From another terminal:")?;
    line(format_args!("  kcat -b {brokers} -C -t {replies} -o end -f '%k %s\\n'"))?;
    line(format_args!(
        "  echo 'me:{{\"text\": \"what a film\"}}' | kcat -b {brokers} -P -t {requests} -K:"
    ))
}

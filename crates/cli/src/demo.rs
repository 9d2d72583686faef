//! `forebay demo`: the whole thing in one process, with batching on and off.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use forebay_kafka::{EmbeddedBroker, Response};
use serde_json::Value;

use crate::load::{Load, Measured};
use crate::print::line;
use crate::running::{BatchSizes, Running, describe_sizes};
use crate::sentiment::{self, ModelArgs};
use crate::{profile, progress, signals};

/// Show requests going through an embedded Kafka broker and a sentiment model, batched and one by one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Requests to send
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Requests under way at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Replies to print; the rest only move the bar
    #[arg(long, default_value_t = 24)]
    rows: usize,
    /// Keep serving afterwards, so that any Kafka client can join
    #[arg(long)]
    serve: bool,
}

const PARTITIONS: i32 = 4;
const BATCHED: &str = "batched";
const UNBATCHED: &str = "unbatched";

pub(crate) fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    runtime.block_on(async {
        let stop = signals::stop_token()?;
        match stop.run_until_cancelled(show(args)).await {
            None => line("interrupted")?,
            Some(served) => {
                let Some(mut serving) = served? else { return Ok(()) };
                tokio::select! {
                    () = stop.cancelled() => serving.stop().await?,
                    error = serving.running.ended() => return Err(error),
                }
            }
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the demo; gives the batched pipeline back if it is to go on serving.
async fn show(args: &Args) -> anyhow::Result<Option<Serving>> {
    let broker = embedded_broker()?;
    let brokers = broker.bootstrap_servers();
    line(format_args!(
        "Kafka    {brokers} (embedded: in memory, at least once, 5 MiB a partition)"
    ))?;

    let load = Load { requests: args.requests as usize, concurrency: args.concurrency as usize };
    let plan = sentiment::plan(&args.model, BATCHED)?.at_embedded_broker(&broker);
    let mut batched = Running::start(plan, BATCHED).await?;
    // `models/sentiment (bert, text-classification) on cpu: as asked`
    let (model, device) =
        batched.description.split_once(" on ").unwrap_or((&batched.description, ""));
    line(format_args!("Model    {model}\nDevice   {device}\nBuild    {}", profile::describe()))?;
    line(format_args!("Load     {} requests, {} at once\n", load.requests, load.concurrency))?;
    let with = measure(&mut batched, load, args.rows).await?;

    let plan = sentiment::unbatched(&args.model, UNBATCHED)?.at_embedded_broker(&broker);
    let mut unbatched = Running::start(plan, UNBATCHED).await?;
    let without = measure(&mut unbatched, load, 0).await?;
    unbatched.stop().await?;

    line(format_args!("\n{:<14}{:>26}{:>26}", "", "batched", "one by one"))?;
    compare("replies/s", &with, &without, |run| format!("{:.0}", run.0.per_second()))?;
    for (name, quantile) in [("latency p50", 0.5), ("latency p95", 0.95), ("latency p99", 0.99)] {
        compare(name, &with, &without, |run| millis(run.0.latency(quantile)))?;
    }
    compare("batches", &with, &without, |run| describe_sizes(&run.1))?;
    line(format_args!(
        "\nbatched is {:.1}x as fast",
        with.0.per_second() / without.0.per_second()
    ))?;

    if !args.serve {
        batched.stop().await?;
        return Ok(None);
    }
    print_serving(&brokers)?;
    Ok(Some(Serving { running: batched, _broker: broker }))
}

/// What goes on after the demo.
struct Serving {
    running: Running,
    // Lives as long as the pipeline.
    _broker: EmbeddedBroker,
}

impl Serving {
    async fn stop(self) -> anyhow::Result<()> {
        self.running.stop().await?;
        Ok(())
    }
}

fn embedded_broker() -> anyhow::Result<EmbeddedBroker> {
    let topics = [BATCHED, UNBATCHED].map(sentiment::topics);
    let topics: Vec<_> = topics
        .iter()
        .flat_map(|(requests, replies)| [(requests.as_str(), PARTITIONS), (replies, PARTITIONS)])
        .collect();
    EmbeddedBroker::start(&topics).context("cannot start the embedded broker")
}

async fn measure(
    running: &mut Running,
    load: Load,
    rows: usize,
) -> anyhow::Result<(Measured, BatchSizes)> {
    running.warm_up(load).await?;
    let bar = progress::bar(load.requests as u64, "replies");
    if rows > 0 {
        line(format_args!("{:<9} {:>5}  {:>8}  text", "label", "score", "latency"))?;
    }
    let printed = Cell::new(0);
    let measured = running
        .load(load, |text, response, latency| {
            if printed.get() < rows {
                printed.set(printed.get() + 1);
                // A terminal that is gone shows nothing more; the comparison that follows finds that out.
                bar.suspend(|| line(row(text, response, latency))).ok();
            }
            bar.inc(1);
        })
        .await?;
    bar.finish_and_clear();
    if rows > 0 && rows < load.requests {
        line(format_args!("and {} more", load.requests - rows))?;
    }
    Ok((measured, running.take_sizes()))
}

/// One reply as a line of at most 80 columns.
fn row(text: &str, response: &Response, latency: Duration) -> String {
    const TEXT: usize = 53;
    let reply: Value = response
        .value
        .as_deref()
        .and_then(|value| serde_json::from_slice(value).ok())
        .unwrap_or_default();
    let mut shown: String = text.chars().take(TEXT).collect();
    if shown.len() < text.len() {
        shown.pop();
        shown.push('…');
    }
    match (reply["label"].as_str(), reply["score"].as_f64()) {
        (Some(label), Some(score)) => {
            format!("{label:<9} {score:>5.3}  {:>8}  {shown}", millis(latency))
        }
        _ => format!("{reply}"),
    }
}

fn compare<T>(
    name: &str,
    with: &T,
    without: &T,
    show: impl Fn(&T) -> String,
) -> anyhow::Result<()> {
    line(format_args!("{name:<14}{:>26}{:>26}", show(with), show(without)))
}

fn millis(latency: Duration) -> String {
    format!("{:.1} ms", latency.as_secs_f64() * 1e3)
}

fn print_serving(brokers: &str) -> anyhow::Result<()> {
    let (requests, replies) = sentiment::topics(BATCHED);
    line(format_args!("\nServing until Ctrl-C. From another terminal:"))?;
    line(format_args!("  kcat -b {brokers} -C -t {replies} -o end -f '%k %s\\n'"))?;
    line(format_args!(
        "  echo 'me:{{\"text\": \"what a film\"}}' | kcat -b {brokers} -P -t {requests} -K:"
    ))
}

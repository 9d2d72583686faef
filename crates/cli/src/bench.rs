//! `forebay bench`: throughput and latency at several levels of concurrency, batched and one by one.

use std::process::ExitCode;

use anyhow::Context as _;
use forebay_kafka::{EmbeddedBroker, create_topics};
use forebay_pipeline::Plan;

use crate::load::{Load, Measured};
use crate::print::line;
use crate::running::{Running, mean_size};
use crate::sentiment::{self, ModelArgs};
use crate::{profile, signals};

/// Measure the sentiment pipeline at several levels of concurrency, batched and one by one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Requests under way at once, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "1,10,25,50,100,200,500",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// Requests for each measurement [default: ten for each client, at least 200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: Option<u32>,
    /// Kafka's bootstrap servers, on which topics are created [default: an embedded broker]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
}

const PARTITIONS: i32 = 4;

pub(crate) fn bench(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    runtime.block_on(async {
        let stop = signals::stop_token()?;
        stop.run_until_cancelled(compare(args))
            .await
            .unwrap_or_else(|| anyhow::bail!("interrupted"))
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    // Topics of this process alone, so that runs on one broker do not answer each other.
    let runs = ["batched", "unbatched"].map(|run| format!("bench-{}-{run}", std::process::id()));
    let topics = runs.each_ref().map(|run| sentiment::topics(run));
    let topics: Vec<_> = topics
        .iter()
        .flat_map(|(requests, replies)| [(requests.as_str(), PARTITIONS), (replies, PARTITIONS)])
        .collect();
    let broker = match &args.brokers {
        Some(brokers) => {
            create_topics(brokers, &topics).await?;
            None
        }
        None => Some(EmbeddedBroker::start(&topics).context("cannot start the embedded broker")?),
    };
    let at_broker = |plan: Plan| match (&broker, &args.brokers) {
        (Some(broker), _) => plan.at_embedded_broker(broker),
        (None, Some(brokers)) => plan.at_brokers(brokers),
        (None, None) => plan,
    };

    let [batched, unbatched] = &runs;
    let plan = at_broker(sentiment::plan(&args.model, batched)?);
    let mut batched = Running::start(plan, batched).await?;
    let plan = at_broker(sentiment::unbatched(&args.model, unbatched)?);
    let mut unbatched = Running::start(plan, unbatched).await?;

    line(format_args!("{}", batched.description))?;
    line(format_args!("broker: {}", args.brokers.as_deref().unwrap_or("embedded")))?;
    line(format_args!("build: {}\n", profile::describe()))?;
    line(format_args!(
        "{:>7}  {:^31}  {:^25}  {:>5}",
        "clients", "batched", "one by one", "ratio"
    ))?;
    line(format_args!(
        "{:>7}  {:>7} {:>7} {:>7} {:>7}  {:>7} {:>8} {:>8}",
        "", "1/s", "p50 ms", "p99 ms", "mean", "1/s", "p50 ms", "p99 ms"
    ))?;
    for &concurrency in &args.concurrency {
        let requests = args.requests.unwrap_or(concurrency.saturating_mul(10).max(200)) as usize;
        let load = Load { requests, concurrency: concurrency as usize };
        let (with, sizes) = measure(&mut batched, load).await?;
        let (without, _) = measure(&mut unbatched, load).await?;
        line(format_args!(
            "{concurrency:>7}  {:>7.0} {:>7.1} {:>7.1} {:>7.1}  {:>7.0} {:>8.1} {:>8.1}  {:>5.2}",
            with.per_second(),
            millis(&with, 0.5),
            millis(&with, 0.99),
            sizes,
            without.per_second(),
            millis(&without, 0.5),
            millis(&without, 0.99),
            with.per_second() / without.per_second(),
        ))?;
    }
    batched.stop().await?;
    unbatched.stop().await?;
    Ok(())
}

async fn measure(running: &mut Running, load: Load) -> anyhow::Result<(Measured, f64)> {
    running.warm_up(load).await?;
    let measured = running.load(load, |_, _, _| {}).await?;
    Ok((measured, mean_size(&running.take_sizes())))
}

fn millis(measured: &Measured, quantile: f64) -> f64 {
    measured.latency(quantile).as_secs_f64() * 1e3
}

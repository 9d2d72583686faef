//! `forebay bench`: throughput and latency at several levels of concurrency, batched and one by
//! one.

mod plot;
mod point;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use self::point::{Figures, Point};
use crate::comparison::{Comparison, Setting};
use crate::load::Load;
use crate::print::line;
use crate::running::{Pipelines, Running, mean_size};
use crate::sentiment::ModelArgs;
use crate::{exit, profile, signals};

/// Measure the sentiment pipeline at several levels of concurrency, batched and one by one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Numbers of clients to measure with. Each client sends its next request when the last one is
    /// answered
    #[arg(long, value_delimiter = ',', default_value = "1,10,25,50,100,200,500",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// Requests per measurement [default: ten per client, at least 200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: Option<u32>,
    /// Bootstrap servers of a Kafka cluster, in which topics are created [default: an embedded
    /// broker]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Also write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also plot the figures to this file as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Number of bursts per measurement. A burst is one request of each client, all sent at once. The
/// figures have the median of the bursts' durations.
const BURSTS: usize = 3;

pub(crate) fn bench(args: &Args) -> anyhow::Result<ExitCode> {
    // Creates the files first, so that a bad path fails before minutes of measuring.
    let [mut json, mut svg] = [create(args.json.as_deref())?, create(args.svg.as_deref())?];
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    let setting = match &args.brokers {
        Some(brokers) => runtime.block_on(Setting::at(brokers))?,
        None => Setting::embedded()?,
    };
    let measured = runtime.block_on(async {
        let pipelines = Pipelines::new(signals::stop_token()?);
        pipelines.run_until_stopped(measure_all(args, &setting, &pipelines)).await.transpose()
    });
    drop(runtime);
    drop(setting);
    let Some((about, points)) = measured? else {
        line("interrupted")?;
        return Ok(exit::INTERRUPTED.into());
    };
    if let Some(file) = &mut json {
        let measurements: Vec<_> = points.iter().map(Point::to_json).collect();
        let mut report = about.clone();
        report["measurements"] = json!(measurements);
        writeln!(file, "{report:#}").context("cannot write the figures")?;
    }
    if let Some(file) = &mut svg {
        let drawing = plot::draw(&points).context("cannot plot the figures")?;
        file.write_all(drawing.as_bytes()).context("cannot write the plot")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn create(path: Option<&Path>) -> anyhow::Result<Option<File>> {
    path.map(|path| {
        File::create(path).with_context(|| format!("cannot write to {}", path.display()))
    })
    .transpose()
}

/// Measures all levels of concurrency and prints a row for each. Returns a description of the
/// setting and the measurements.
async fn measure_all(
    args: &Args,
    setting: &Setting,
    pipelines: &Pipelines,
) -> anyhow::Result<(serde_json::Value, Vec<Point>)> {
    let Comparison { mut batched, mut one_by_one } = setting.start(&args.model, pipelines).await?;

    let broker = args.brokers.as_deref().unwrap_or("embedded");
    line(format_args!("{}", batched.description))?;
    line(format_args!("broker: {broker}"))?;
    line(format_args!("build: {}\n", profile::describe()))?;
    line(format_args!(
        "{:>7}  {:^31}  {:^25}  {:>5}",
        "clients", "batched", "one by one", "ratio"
    ))?;
    line(format_args!(
        "{:>7}  {:>7} {:>7} {:>7} {:>7}  {:>7} {:>8} {:>8}",
        "", "1/s", "p50 ms", "p99 ms", "mean", "1/s", "p50 ms", "p99 ms"
    ))?;
    let mut points = Vec::new();
    for &concurrency in &args.concurrency {
        let requests = args.requests.unwrap_or(concurrency.saturating_mul(10).max(200)) as usize;
        let load = Load { requests, concurrency: concurrency as usize };
        let point = Point {
            clients: concurrency,
            batched: measure(&mut batched, load).await?,
            one_by_one: measure(&mut one_by_one, load).await?,
        };
        line(format_args!("{point}"))?;
        points.push(point);
    }
    let about = json!({
        "forebay": env!("CARGO_PKG_VERSION"),
        "model": batched.description,
        "broker": broker,
        "build": profile::NAME,
    });
    Ok((about, points))
}

async fn measure(running: &mut Running, load: Load) -> anyhow::Result<Figures> {
    let burst = Load { requests: load.concurrency, ..load };
    running.warm_up(burst).await?;
    let mut bursts = Vec::new();
    for _ in 0..BURSTS {
        bursts.push(running.warm_up(burst).await?.elapsed);
    }
    bursts.sort_unstable();
    let measured = running.load(load, |_, _, _| {}).await?;
    Ok(Figures {
        burst: bursts[BURSTS / 2],
        mean_batch: mean_size(&running.take_sizes()),
        load: measured,
    })
}

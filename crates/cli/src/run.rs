//! `forebay run`: runs a pipeline file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use forebay_kafka::EmbeddedBroker;
use forebay_pipeline::{Plan, Progress};
use sd_notify::NotifyState;

use crate::health::Health;
use crate::{exit, look, metrics, print, progress, signals, supervisor};

/// Number of partitions of each topic on an embedded broker.
pub(crate) const PARTITIONS: i32 = 4;

/// Stack size of the threads that run jq expressions, which may recurse deeply, in bytes. The
/// system allocates only the pages that are used.
pub(crate) const STACK: usize = 256 << 20;

/// Run a pipeline until its input ends or a signal stops it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file
    file: PathBuf,
    /// Start a Kafka broker in this process, in memory, with the pipeline's topics, and use it
    /// instead of the `brokers` of the file
    #[arg(long, conflicts_with = "stdio")]
    embedded_broker: bool,
    /// Read requests from standard input and write replies to standard output, instead of using the
    /// file's source and sink
    #[arg(long)]
    stdio: bool,
    /// Create this file when the pipeline is ready for requests and remove it when the pipeline
    /// stops, for health checks
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Serve pages that show the running pipeline: /livez and /readyz for probes, /metrics for Prometheus, /state.json, /taps,
    /// /graph.svg and /graph.mmd. They show keys and contents of requests, so keep the address
    /// private
    #[arg(long, alias = "debug-listen", value_name = "HOST:PORT", value_parser = address)]
    listen: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // An earlier run that was killed may have left the file behind.
    remove(args.ready_file.as_deref());
    let mut plan = Plan::load(&args.file)?;
    if args.stdio {
        plan = plan.on_stdio()?;
    }
    plan.check_models()?;
    // The broker must live as long as the pipeline.
    let _broker = args.embedded_broker.then(|| embed_broker(&mut plan)).transpose()?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
        .context("cannot start a runtime")?;
    let summary = runtime.block_on(async {
        let stop = signals::stop_token()?;
        tokio::spawn({
            let stop = stop.clone();
            let ready_file = args.ready_file.clone();
            async move {
                stop.cancelled().await;
                remove(ready_file.as_deref());
            }
        });
        tracing::info!(pipeline = plan.name(), "starting");
        let ready_file = args.ready_file.clone();
        let mut show = progress::show();
        let health = Health::new();
        let noted = health.clone();
        let observe = move |progress| {
            noted.note(&progress);
            match progress {
                Progress::Ready { .. } => {
                    if let Some(path) = &ready_file
                        && let Err(error) = std::fs::write(path, "")
                    {
                        tracing::error!(path = %path.display(), %error, "cannot create the ready file");
                    }
                    supervisor::notify(NotifyState::Ready);
                }
                Progress::Stopping => {
                    remove(ready_file.as_deref());
                    supervisor::notify(NotifyState::Stopping);
                }
                _ => {}
            }
            show(progress);
        };
        let metrics = args.listen.is_some().then(metrics::install).transpose()?;
        let pages = async {
            match (&args.listen, metrics) {
                (Some(listen), Some(metrics)) => {
                    look::pages(plan.name(), &health, metrics).serve(listen).await
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            summary = plan.run(stop, observe) => anyhow::Ok(summary?),
            Err(error) = pages => Err(error).context("cannot serve the pages"),
            never = supervisor::keep_alive() => never,
        }
    });
    // Shuts down without waiting for a blocking read of standard input, which cannot be cancelled.
    runtime.shutdown_background();
    remove(args.ready_file.as_deref());
    let summary = summary.map_err(|error| {
        // A closed standard output ends the run silently only if it is the only sink.
        if print::is_closed_pipe(&error) && plan.kept_by() > 1 {
            return anyhow::anyhow!(
                "standard output was closed, so the output of the other sinks is incomplete"
            );
        }
        error
    })?;

    tracing::info!(answers = summary.answers, errors = summary.errors, "done");
    let failed = plan.reads_lines() && summary.errors > 0;
    Ok(if failed { ExitCode::from(exit::SOME_FAILED) } else { ExitCode::SUCCESS })
}

/// Checks an address to listen at.
fn address(text: &str) -> Result<String, forebay_http::Error> {
    forebay_http::check_listen(text).map(|()| text.to_owned())
}

fn remove(ready_file: Option<&Path>) {
    if let Some(path) = ready_file {
        // The file may be missing.
        std::fs::remove_file(path).ok();
    }
}

fn embed_broker(plan: &mut Plan) -> anyhow::Result<EmbeddedBroker> {
    let topics: Vec<_> = plan.topics().into_iter().map(|topic| (topic, PARTITIONS)).collect();
    anyhow::ensure!(
        !topics.is_empty(),
        "--embedded-broker needs a pipeline with a Kafka source or sink"
    );
    let broker = EmbeddedBroker::start(&topics).context("cannot start the embedded broker")?;
    let address = broker.bootstrap_servers();
    tracing::info!(
        address,
        "embedded broker: keeps 5 MiB per partition in memory, supports at-least-once delivery only"
    );
    *plan = plan.clone().at_embedded_broker(&broker);
    Ok(broker)
}

//! Forebay as one of the systems that this benchmark compares: a source, the usual operators around
//! a model, and a sink. The model returns its input, so that only Forebay's own cost is measured.

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use forebay_kafka::{
    Delivery, Error, Reply, ReplyKind, Sink, SinkConfig, Source, SourceConfig, SourceItem,
    TransactionSettings,
};
use forebay_stream::{AdaptiveWindow, Batch, Flow, Pipeline, Release};
use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::job::{Contender, Job, Stopwatch, on_end};

const BATCH: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// Runs one variant of Forebay: the source alone, source and sink without operators
/// (`ForebayEnds..`), or the whole pipeline; the last two also with transactions. Uses tokio's
/// multi-threaded runtime, as the program `forebay` does.
#[tokio::main]
pub(crate) async fn run(contender: Contender, job: &Job) -> anyhow::Result<Stopwatch> {
    let config = source_config(contender, job);
    let in_flight = config.max_in_flight;
    let mut source = Source::connect(config).await?;
    let sink = SinkConfig::new(&job.brokers, &job.replies);
    let sinks = match contender {
        Contender::ForebaySource => None,
        Contender::ForebayTransactions | Contender::ForebayEndsTransactions => {
            Some(Ok(source.sink(sink).await?))
        }
        _ => Some(Err(Sink::connect(sink).await?)),
    };
    let stop = CancellationToken::new();
    let (events, handle) = source.start(&stop)?;
    on_end(move || stop.cancel());
    let stopwatch = Arc::new(Mutex::new(Stopwatch::new()));
    let requests = requests(events, job.count, Arc::clone(&stopwatch));
    let ends = matches!(contender, Contender::ForebayEnds | Contender::ForebayEndsTransactions);
    let replies = |requests| if ends { echo(requests) } else { answer(requests, in_flight) };
    let pipeline = match sinks {
        None => requests.sink_fn(drop),
        Some(Ok(sink)) => replies(requests).sink("replies", sink),
        Some(Err(sink)) => replies(requests).sink("replies", sink),
    };
    Pipeline::run(pipeline).await?;
    let report = handle.close(Duration::from_secs(30)).await?;
    ensure!(
        (report.unresolved, report.held) == (0, 0),
        "some requests were not resolved, or failed or were abandoned: {report:?}"
    );
    let stopwatch = Arc::into_inner(stopwatch)
        .ok_or_else(|| anyhow!("the flow has ended, but something still holds the stopwatch"))?;
    Ok(stopwatch.into_inner())
}

fn source_config(contender: Contender, job: &Job) -> SourceConfig {
    let mut config = SourceConfig::new(&job.brokers, &job.requests, &job.replies);
    if let Some(bound) = job.in_flight {
        config.max_in_flight = bound;
    }
    if matches!(contender, Contender::ForebayTransactions | Contender::ForebayEndsTransactions) {
        let id = Some(job.replies.clone());
        config.delivery =
            Delivery::ExactlyOnce(TransactionSettings { id, ..TransactionSettings::default() });
    }
    config
}

fn requests(
    events: impl Stream<Item = SourceItem> + Send + 'static,
    count: usize,
    stopwatch: Arc<Mutex<Stopwatch>>,
) -> Flow<Option<Bytes>> {
    let mut started = false;
    let events = events.take(count).inspect(move |_: &Result<_, Error>| {
        if !started {
            started = true;
            stopwatch.lock().read();
        }
    });
    Flow::from_try_events("requests", events)
}

/// Answers requests like a pipeline with a model: failures get error replies, and whenever the
/// model is free, a batch of up to 64 waiting requests starts.
fn answer(requests: Flow<Option<Bytes>>, in_flight: NonZeroUsize) -> Flow<Reply> {
    let (requests, failures) = requests.catch(in_flight, Release::AtOnce);
    let window = AdaptiveWindow { max_size: BATCH, max_wait: Duration::ZERO, max_cost: u64::MAX };
    let model =
        |batch: Batch<Option<Bytes>>| async move { Ok(batch.iter().cloned().map(Ok).collect()) };
    let errors = failures.map(|failed| Reply {
        value: Some(failed.failure.to_string().into()),
        kind: ReplyKind::Error,
        ..Reply::default()
    });
    let results = requests.adaptive_window(window, |_| 1).map_batch(model);
    echo(results).rejoin(errors)
}

fn echo(values: Flow<Option<Bytes>>) -> Flow<Reply> {
    values.map(|value| Reply { value, ..Reply::default() })
}

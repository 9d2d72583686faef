//! Pipelines that run in the same process as their clients, for the demo and the benchmark.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forebay_kafka::{Requester, Response};
use forebay_pipeline::{Plan, Progress, RunError, Summary};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::load::{self, Load, Measured};
use crate::progress;
use crate::sentiment::{self, LabelledText};

/// Number of batches by batch size.
pub(crate) type BatchSizes = BTreeMap<usize, usize>;

/// The pipelines of this process. They drain and stop together at the first signal, or when the
/// work of [`Pipelines::run_until_stopped`] is done.
pub(crate) struct Pipelines {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Pipelines {
    /// Creates an empty set of pipelines. The first signal cancels `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: TaskTracker::new() }
    }

    /// Runs `work`, which starts pipelines, and stops them when it is done or a signal comes.
    /// Returns `None` after a signal.
    pub(crate) async fn run_until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let done = self.stop.run_until_cancelled(work).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        done
    }
}

/// A running pipeline with its client.
pub(crate) struct Running {
    requester: Requester,
    /// The model and its device, on one line.
    pub(crate) description: String,
    sizes: Arc<Mutex<BatchSizes>>,
    pipeline: JoinHandle<Result<Summary, RunError>>,
}

impl Running {
    /// Runs `plan` as one of `pipelines`, and returns once it is ready for requests.
    pub(crate) async fn start(
        plan: Plan,
        run: &str,
        pipelines: &Pipelines,
    ) -> anyhow::Result<Self> {
        let (requests, replies) = sentiment::topics(run);
        let source = plan.kafka_sources().next().context("the pipeline does not read Kafka")?;
        let requester =
            Requester::connect(&source.brokers, &requests, &replies, &source.options).await?;

        let sizes = Arc::<Mutex<BatchSizes>>::default();
        let (ready, until_ready) = oneshot::channel();
        let observer = observer(Arc::clone(&sizes), ready);
        let stop = pipelines.stop.clone();
        let pipeline = pipelines.tasks.spawn(async move { plan.run(stop, observer).await });
        match until_ready.await {
            Ok(description) => Ok(Self { requester, description, sizes, pipeline }),
            // The run has ended and dropped the observer; its error has the reason.
            Err(_) => Err(end_error(pipeline.await)),
        }
    }

    /// Sends a load. Fails early if the pipeline ends.
    pub(crate) async fn load(
        &mut self,
        load: Load,
        on_reply: impl Fn(LabelledText, &Response, Duration),
    ) -> anyhow::Result<Measured> {
        let texts = sentiment::texts();
        tokio::select! {
            measured = load::run(&self.requester, load, &texts, on_reply) => measured,
            ended = &mut self.pipeline => Err(end_error(ended)),
        }
    }

    /// Sends a load without counting its batches. The first requests fill caches and open
    /// connections, and are too slow for a measurement.
    pub(crate) async fn warm_up(&mut self, load: Load) -> anyhow::Result<Measured> {
        let measured = self.load(load, |_, _, _| {}).await?;
        self.take_sizes();
        Ok(measured)
    }

    /// Waits until the pipeline ends without being stopped, and returns the reason.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        end_error((&mut self.pipeline).await)
    }

    /// Returns the sizes of the batches since the last call.
    pub(crate) fn take_sizes(&self) -> BatchSizes {
        std::mem::take(&mut *self.sizes.lock())
    }
}

/// Returns the reason why a pipeline ended without being stopped.
fn end_error(ended: Result<Result<Summary, RunError>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(_)) => anyhow::anyhow!("the pipeline ended by itself"),
        Ok(Err(error)) => error.into(),
        Err(error) => anyhow::Error::new(error).context("the pipeline panicked"),
    }
}

/// Returns an observer that shows the start of the pipeline, sends the description of its model
/// when it is ready, and counts batches from then on.
fn observer(
    sizes: Arc<Mutex<BatchSizes>>,
    ready: oneshot::Sender<String>,
) -> impl FnMut(Progress) + Send + 'static {
    let mut show = progress::show();
    let mut ready = Some(ready);
    let mut described = String::new();
    move |progress| {
        match &progress {
            Progress::Loaded { description, .. } => described.clone_from(description),
            Progress::Ready { .. } => {
                if let Some(ready) = ready.take() {
                    // The caller of `start` may have given up.
                    ready.send(std::mem::take(&mut described)).ok();
                }
            }
            Progress::Batch { size, .. } => {
                *sizes.lock().entry(*size).or_default() += 1;
            }
            _ => {}
        }
        show(progress);
    }
}

/// Returns the mean number of requests per batch.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
pub(crate) fn mean_size(sizes: &BatchSizes) -> f64 {
    let batches: usize = sizes.values().sum();
    let requests: usize = sizes.iter().map(|(size, count)| size * count).sum();
    requests as f64 / batches.max(1) as f64
}

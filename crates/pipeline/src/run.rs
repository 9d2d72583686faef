//! A plan, running.

mod error;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay_kafka::{Sink as KafkaSink, Source as KafkaSource, SourceHandle};
use forebay_model::{ModelHandle, TextModel, WarmUp};
use forebay_stream::{Flow, Graph, Pipeline};
use futures::future::select_all;
use tokio::io::BufReader;
use tokio_util::sync::CancellationToken;

pub use error::RunError;

use crate::answer::Answer;
use crate::assemble::{assemble, sink_name, source_name};
use crate::lines::{Confirm, LinesSink, lines};
use crate::plan::{Plan, SinkPlan, SourcePlan};
use crate::task::{self, Task};

/// Longest that a stopped pipeline takes to answer what is in flight.
const SHUTDOWN: Duration = Duration::from_secs(25);

/// What a starting pipeline tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// A model is being loaded.
    Loading {
        /// The model's name.
        model: String,
    },
    /// A step of a model's warm-up is done.
    WarmUp {
        /// The model's name.
        model: String,
        /// The step.
        step: WarmUp,
    },
    /// A model is ready.
    Loaded {
        /// The model's name.
        model: String,
        /// What it is and which device it is on.
        description: String,
    },
    /// Requests are being taken.
    Ready,
    /// A batch goes to a model.
    Batch {
        /// The model's name.
        model: String,
        /// Requests in it.
        size: usize,
    },
}

/// What a pipeline did until its input ended or it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Answers that left, errors counted in.
    pub answers: u64,
    /// Answers that were errors.
    pub errors: u64,
}

type Observer = Arc<Mutex<dyn FnMut(Progress) + Send>>;

impl Plan {
    /// Loads the models, connects, and runs until the input ends or `stop` is cancelled; then answers what is in
    /// flight, commits, and returns.
    ///
    /// # Errors
    ///
    /// When something cannot be started, when a source, a sink or a model cannot go on, or when what was in flight
    /// could not be answered within 25 s of `stop`.
    pub async fn run(
        &self,
        stop: CancellationToken,
        observe: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Summary, RunError> {
        let observer: Observer = Arc::new(Mutex::new(observe));
        let models = stop
            .run_until_cancelled(load_models(self, &observer))
            .await
            .unwrap_or(Ok(BTreeMap::new()))?;
        if stop.is_cancelled() {
            return Ok(Summary { answers: 0, errors: 0 });
        }

        // Stopping the intake is also what a failure elsewhere leads to.
        let intake = stop.child_token();
        let (records, source) = self.open_source(&intake).await?;
        let task = |name: &str| task_of(&models, name, &observer);
        let answers = assemble(self, records, &task);
        let pipeline = self.open_sink(answers).await?;
        let graph = pipeline.graph().clone();
        tell(&observer, Progress::Ready);

        let ended = drive(pipeline, &models, &stop).await;
        intake.cancel();
        let closed = close_source(source, ended.is_ok()).await;
        ended.and(closed)?;
        Ok(summary(&graph))
    }

    async fn open_source(
        &self,
        stop: &CancellationToken,
    ) -> Result<(Flow<Option<bytes::Bytes>>, Option<SourceHandle>), RunError> {
        let name = source_name(self);
        Ok(match &self.source {
            SourcePlan::Kafka(config) => {
                let source =
                    KafkaSource::connect(config.clone()).await.map_err(RunError::Connect)?;
                let (records, handle) = source.start(stop).map_err(RunError::Connect)?;
                (Flow::from_try_events(name, records), Some(handle))
            }
            SourcePlan::Stdin => {
                let lines = lines("stdin", BufReader::new(tokio::io::stdin()), stop.clone());
                (Flow::from_try_events(name, lines), None)
            }
            SourcePlan::File(path) => {
                let file = tokio::fs::File::open(path).await;
                let file = file.map_err(|source| RunError::Open { path: path.clone(), source })?;
                let label = path.display().to_string();
                (
                    Flow::from_try_events(name, lines(&label, BufReader::new(file), stop.clone())),
                    None,
                )
            }
        })
    }

    async fn open_sink(&self, answers: Flow<Answer>) -> Result<Pipeline, RunError> {
        let name = sink_name(self);
        let confirm = match self.source {
            SourcePlan::Kafka(_) => Confirm::Flushed,
            SourcePlan::Stdin | SourcePlan::File(_) => Confirm::Buffered,
        };
        Ok(match &self.sink {
            SinkPlan::Kafka(config) => {
                let sink = KafkaSink::connect(config.clone()).await.map_err(RunError::Connect)?;
                answers.named("reply").map(Into::into).sink(name, sink)
            }
            SinkPlan::Stdout => answers.sink(name, LinesSink::new(tokio::io::stdout(), confirm)),
            SinkPlan::File(path) => {
                let file = tokio::fs::File::create(path).await;
                let file = file.map_err(|source| RunError::Open { path: path.clone(), source })?;
                answers.sink(name, LinesSink::new(file, confirm))
            }
        })
    }
}

type Models = BTreeMap<String, ModelHandle<TextModel>>;

async fn load_models(plan: &Plan, observer: &Observer) -> Result<Models, RunError> {
    let mut models = Models::new();
    for (name, options) in &plan.models {
        tell(observer, Progress::Loading { model: name.clone() });
        let build = {
            let options = options.clone();
            move || TextModel::load(&options)
        };
        let on_warm_up = {
            let (observer, model) = (Arc::clone(observer), name.clone());
            move |step| tell(&observer, Progress::WarmUp { model: model.clone(), step })
        };
        let handle = ModelHandle::spawn(name, build, on_warm_up)
            .await
            .map_err(|source| RunError::Model { name: name.clone(), source })?;
        let description = handle.describe().to_owned();
        tell(observer, Progress::Loaded { model: name.clone(), description });
        models.insert(name.clone(), handle);
    }
    Ok(models)
}

fn task_of(models: &Models, name: &str, observer: &Observer) -> Task {
    // Every model that a step names has been loaded.
    let Some(handle) = models.get(name) else { return task::stub() };
    let (observer, model) = (Arc::clone(observer), name.to_owned());
    task::text(handle.clone(), move |size| {
        tell(&observer, Progress::Batch { model: model.clone(), size })
    })
}

/// Runs the pipeline to its end, to a model's end, or to the deadline after `stop`.
async fn drive(
    pipeline: Pipeline,
    models: &Models,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let model_ended = async {
        if models.is_empty() {
            return std::future::pending().await;
        }
        let watched = models
            .iter()
            .map(|(name, model)| Box::pin(async move { (name.clone(), model.closed().await) }));
        select_all(watched).await.0
    };
    let overdue = async {
        stop.cancelled().await;
        tracing::info!("stopping: answering what is in flight");
        tokio::time::sleep(SHUTDOWN).await;
    };
    tokio::select! {
        ended = pipeline.run() => Ok(ended?),
        (name, failure) = model_ended => Err(RunError::ModelEnded { name, failure }),
        () = overdue => Err(RunError::Overdue { after: SHUTDOWN }),
    }
}

/// Commits what is resolved. After a failure nothing is waited for: what is unresolved will be read again.
async fn close_source(source: Option<SourceHandle>, orderly: bool) -> Result<(), RunError> {
    let Some(source) = source else { return Ok(()) };
    let patience = if orderly { SHUTDOWN } else { Duration::ZERO };
    let report = source.close(patience).await.map_err(RunError::Close)?;
    match report.unresolved + report.held {
        0 => Ok(()),
        _ if !orderly => Ok(()),
        count => Err(RunError::Unresolved { count }),
    }
}

fn summary(graph: &Graph) -> Summary {
    let emitted = |name: &str| {
        graph
            .nodes()
            .iter()
            .filter(|node| &**node.name() == name)
            .map(forebay_stream::Node::emitted)
            .sum()
    };
    Summary { answers: emitted("rejoin"), errors: emitted("error reply") }
}

fn tell(observer: &Observer, progress: Progress) {
    let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
    observer(progress);
}

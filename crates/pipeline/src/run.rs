//! A plan, running.

mod ends;
mod error;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay_model::{ModelHandle, TextModel, WarmUp};
use forebay_stream::{Graph, Pipeline};
use futures::future::select_all;
use tokio_util::sync::CancellationToken;

pub use error::RunError;

use crate::assemble::assemble;
use crate::plan::Plan;
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

        // The sink first: a group should not be joined for a pipeline that cannot answer.
        let attach_sink = ends::open_sink(self).await?;
        // Stopping the intake is also what a failure elsewhere leads to.
        let intake = stop.child_token();
        let (records, source) = ends::open_source(self, &intake).await?;
        let task = |name: &str| task_of(&models, name, &observer);
        let pipeline = attach_sink(assemble(self, records, &task));
        let graph = pipeline.graph().clone();
        tell(&observer, Progress::Ready);

        let ended = drive(pipeline, &models, &stop).await;
        intake.cancel();
        let closed = source.close(ended.is_ok()).await;
        ended.and(closed)?;
        Ok(summary(&graph))
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
        tell(&observer, Progress::Batch { model: model.clone(), size });
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

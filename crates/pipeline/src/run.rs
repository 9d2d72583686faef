//! Runs a plan: loads models, opens sources and sinks, and drives the pipelines to their end.

mod commits;
mod stop;

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Download, Error, Hub, TextHandle, WarmUp};
use forebay_stream::{Failure, Flow, Pipeline};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all, select_all};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::assemble::{Assembled, Assembler};
use crate::counts::Counts;
use crate::draw::merged;
use crate::error::RunError;
use crate::plan::{ModelPlan, Plan, Policy, STOP, SinkPlan, StepKind, StepPlan, TextPlan};
use crate::record::Record;
use crate::registry::{LoadedModel, OnWarmUp};
use crate::sink::{AttachDeadLetters, AttachSink, OpenSources, open_dead_letters};
use crate::source::{Left, RunningSource, SourceControl};
use crate::task::{Task, TextTask};
use crate::view::{ModelSource, View};
use commits::{CommitPipelines, result};
use stop::{FirstFailure, StopSink};

/// Progress of a pipeline, passed to the observer of [`Plan::run`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// A model is being loaded.
    Loading {
        /// The model's name.
        model: String,
    },
    /// A file of a model is being downloaded.
    Download {
        /// The model's name.
        model: String,
        /// The file, and how much of it has arrived.
        download: Download,
    },
    /// A run of a model's warm-up is done.
    WarmUp {
        /// The model's name.
        model: String,
        /// The run that is done.
        step: WarmUp,
    },
    /// A model is ready.
    Loaded {
        /// The model's name.
        model: String,
        /// The kind of the model, and its device.
        description: String,
    },
    /// The pipeline runs, and joins its consumer groups.
    Started {
        /// A live view of the running pipeline.
        view: View,
    },
    /// The pipeline takes requests: each of its consumer groups has assigned partitions to it.
    Ready {
        /// A live view of the running pipeline.
        view: View,
    },
    /// The pipeline reads nothing new: it was told to stop, its lifetime is over, or it has failed.
    Stopping,
    /// A batch is handed to a model.
    Batch {
        /// The model's name.
        model: String,
        /// The number of requests in the batch.
        size: usize,
    },
}

/// Totals of a pipeline that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The number of answers, including errors.
    pub answers: u64,
    /// The number of answers that were errors.
    pub errors: u64,
}

type Observer = Arc<Mutex<dyn FnMut(Progress) + Send>>;

/// The open ends of a pipeline.
struct Opened {
    records: Vec<Flow<Record>>,
    running: Vec<Box<dyn SourceControl>>,
    attach: Vec<AttachSink>,
    keep: Option<AttachDeadLetters>,
}

impl Plan {
    /// Loads the models, connects, and runs until the input ends or `stop` is cancelled. Then it
    /// answers the requests in flight, commits, and returns.
    ///
    /// # Errors
    ///
    /// Returns an error if something cannot be started, if a source, a sink or a model fails while
    /// running, or if the requests in flight are not answered within the shutdown timeout.
    pub async fn run(
        &self,
        stop: CancellationToken,
        observe: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Summary, RunError> {
        let observer: Observer = Arc::new(Mutex::new(observe));
        let models = stop
            .run_until_cancelled(load_models(self, &observer))
            .await
            .unwrap_or(Ok(Models::default()))?;
        if stop.is_cancelled() {
            return Ok(Summary { answers: 0, errors: 0 });
        }

        // A child token, so that sources also stop after a failure, without cancelling the caller's
        // `stop`.
        let intake = stop.child_token();
        let counts = Counts::default();
        // Brokers that do not answer may take a while to open. Nothing has been read until then.
        let Some(opened) = stop.run_until_cancelled(self.open(&intake, &counts)).await else {
            return Ok(Summary { answers: 0, errors: 0 });
        };
        let Opened { records, running, attach, keep } = opened?;
        let task = |name: &str| task_of(&models.tasks, name, &observer);
        let mut taps = BTreeMap::new();
        let assembler =
            Assembler { plan: self, task: &task, counts: &counts, taps: &mut taps, stop: &intake };
        let Assembled { answers, dead_letters, stops } = assembler.assemble(records);
        let (of_commits, mut pipelines) = self.attach(answers, attach, &counts);
        let kept = dead_letters.zip(keep).map(|(letters, keep)| keep(letters));
        let first_failure = FirstFailure::default();
        let stops = stops.map(|failures| {
            let sink = StopSink {
                intake: intake.clone(),
                first: first_failure.clone(),
                counts: counts.clone(),
            };
            failures.sink(STOP, sink)
        });
        pipelines.extend(kept.into_iter().chain(stops));
        let view = View {
            graph: merged(pipelines.iter().chain(&of_commits)),
            taps,
            counts: counts.clone(),
            models: models.views.into(),
        };
        tell(&observer, Progress::Started { view: view.clone() });

        let ready = join_all(running.iter().map(|source| source.ready()));
        let announce = async {
            if intake.run_until_cancelled(ready).await.is_some() {
                tell(&observer, Progress::Ready { view });
            }
            intake.cancelled().await;
            tell(&observer, Progress::Stopping);
            std::future::pending().await
        };
        let mut of_commits = CommitPipelines::start(of_commits);
        let ends = Ends {
            models: models.ends,
            stuck: running.iter().map(|source| source.stuck()).collect(),
            of_commits: &mut of_commits,
        };
        let Driven { ended, stopped } = tokio::select! {
            // Sources that are ready at once are announced before the first batch.
            biased;
            never = announce => never,
            never = self.lifetime(&intake) => never,
            driven = drive(pipelines, ends, &intake, self.shutdown_timeout) => driven,
        };
        intake.cancel();
        // After a failure the sources close without waiting: records that are not settled will be
        // read again.
        let patience = if ended.is_ok() { self.shutdown_timeout } else { Duration::ZERO };
        let closed = join_all(running.into_iter().map(|source| source.close(patience))).await;
        let patience = if ended.is_ok() {
            self.shutdown_timeout.saturating_sub(stopped.map_or(Duration::ZERO, |at| at.elapsed()))
        } else {
            Duration::ZERO
        };
        let passed_on = of_commits.finish(Instant::now() + patience.max(GRACE)).await;
        match (ended, first_failure.error()) {
            // Reports the failure that stopped the pipeline, because it is the cause of a drain
            // that took too long and of offsets that stay uncommitted.
            (Ok(()) | Err(RunError::Overdue { .. }), Some(stopped)) => return Err(stopped),
            (ended, _) => ended?,
        }
        let left: Vec<Left> = closed.into_iter().collect::<Result<_, _>>()?;
        passed_on?;
        self.warn_of_dropped(left.iter().map(|left| left.dropped).sum());
        match left.iter().map(|left| left.unresolved).sum() {
            0 => {}
            count => return Err(RunError::Unresolved { count }),
        }
        let errors = counts.errors();
        Ok(Summary { answers: counts.results() + errors, errors })
    }

    /// Opens the sinks, and then starts the sources. The consumer group is joined last: otherwise
    /// partitions would be assigned to a process that cannot serve them yet.
    async fn open(&self, intake: &CancellationToken, counts: &Counts) -> Result<Opened, RunError> {
        let mut open = OpenSources::open(&self.sources).await?;
        let mut attach = Vec::new();
        for SinkPlan { sink, of_commits, .. } in &self.sinks {
            let sources = if *of_commits { &mut OpenSources::none() } else { &mut open };
            attach.push(sink.end().open(sources).await?);
        }
        let keep = match &self.on_failure.policy {
            Policy::DeadLetter { sink, .. } => Some(open_dead_letters(sink, &mut open).await?),
            Policy::Reply | Policy::Stop => None,
        };
        let mut records = Vec::new();
        let mut running = Vec::new();
        for source in open.into_inner() {
            let RunningSource { records: flow, control } =
                source.start(intake.clone(), counts).await?;
            records.push(flow);
            running.push(control);
        }
        Ok(Opened { records, running, attach, keep })
    }

    /// Stops the intake once the run has lasted for `max_lifetime`.
    async fn lifetime<T>(&self, intake: &CancellationToken) -> T {
        if let Some(lifetime) = self.max_lifetime {
            tokio::time::sleep(lifetime).await;
            if !intake.is_cancelled() {
                tracing::info!(?lifetime, "max_lifetime is over");
                intake.cancel();
            }
        }
        std::future::pending().await
    }

    /// Attaches the sinks. Returns the pipelines of committed offsets, whose events are no answers
    /// and are not counted, and those of answers.
    fn attach(
        &self,
        answers: Vec<Flow<Answer>>,
        attach: Vec<AttachSink>,
        counts: &Counts,
    ) -> (Vec<Pipeline>, Vec<Pipeline>) {
        let uncounted = Counts::uncounted();
        let mut of_commits = Vec::new();
        let mut of_answers = Vec::new();
        for ((sink, answers), attach) in self.sinks.iter().zip(answers).zip(attach) {
            if sink.of_commits {
                of_commits.push(attach(answers, &uncounted));
            } else {
                of_answers.push(attach(answers, counts));
            }
        }
        (of_commits, of_answers)
    }

    /// Warns of lines without an answer, unless a join explains them: at the end of a `zip`, values
    /// that found no partner are left.
    fn warn_of_dropped(&self, lines: u64) {
        let joins =
            |step: &StepPlan| matches!(&step.kind, StepKind::Join { join, .. } if !join.merges());
        if lines == 0 || self.steps.iter().any(joins) {
            return;
        }
        tracing::warn!(
            lines,
            "some lines got no answer: they were dropped without a result or a failure"
        );
    }
}

#[derive(Default)]
struct Models {
    tasks: BTreeMap<String, Task>,
    /// Futures that resolve with the model's name when a model's thread has ended although the
    /// model is still in use.
    ends: Vec<BoxFuture<'static, (String, Failure)>>,
    views: Vec<ModelSource>,
}

async fn load_models(plan: &Plan, observer: &Observer) -> Result<Models, RunError> {
    let mut models = Models::default();
    for (name, model) in &plan.models {
        tell(observer, Progress::Loading { model: name.clone() });
        let on_warm_up = {
            let observer = Arc::clone(observer);
            let model = name.clone();
            Box::new(move |step| tell(&observer, Progress::WarmUp { model: model.clone(), step }))
        };
        let loaded = match model {
            ModelPlan::Text(plan) => {
                let observer = Arc::clone(observer);
                let model = name.clone();
                let on_download = move |download| {
                    tell(&observer, Progress::Download { model: model.clone(), download });
                };
                load_text(name, plan, on_download, on_warm_up).await
            }
            ModelPlan::Custom(model) => model.load(name.clone(), on_warm_up).await,
        };
        let loaded = loaded.map_err(|source| RunError::Model { name: name.clone(), source })?;
        let LoadedModel { description, task, closed, work } = loaded;
        models.views.push(ModelSource {
            name: name.clone(),
            description: description.clone(),
            work,
        });
        tell(observer, Progress::Loaded { model: name.clone(), description });
        models.tasks.insert(name.clone(), task);
        let name = name.clone();
        models.ends.push(closed.map(move |failure| (name, failure)).boxed());
    }
    Ok(models)
}

async fn load_text(
    name: &str,
    plan: &TextPlan,
    on_download: impl FnMut(Download) + Send + 'static,
    on_warm_up: OnWarmUp,
) -> Result<LoadedModel, Error> {
    let TextPlan { options, hub, devices, replicas } = plan;
    let mut options = options.clone();
    if let Some(model) = hub {
        let model = model.clone();
        let mut tell = on_download;
        let fetch = move || Hub::from_env()?.fetch(&model, &mut tell);
        let fetched = tokio::task::spawn_blocking(fetch).await;
        options.path = fetched.map_err(|error| Error::Custom(error.into()))??;
    }
    let handle = TextHandle::spawn_on(name, &options, devices, *replicas, on_warm_up).await?;
    Ok(LoadedModel {
        description: handle.describe(),
        work: Arc::new({
            let handle = handle.clone();
            move || handle.work()
        }),
        closed: Box::pin({
            let handle = handle.clone();
            async move { handle.closed().await }
        }),
        task: Task::Text(TextTask::new(handle)),
    })
}

/// Returns a model's task, wrapped so that it reports each batch to the observer.
fn task_of(tasks: &BTreeMap<String, Task>, name: &str, observer: &Observer) -> Task {
    let Some(task) = tasks.get(name) else {
        unreachable!("every model that a step names has been loaded");
    };
    let observer = Arc::clone(observer);
    let model = name.to_owned();
    task.observed(
        name,
        Arc::new(move |size| tell(&observer, Progress::Batch { model: model.clone(), size })),
    )
}

/// The time that a pipeline has to end by itself after one of its sources has failed, and the least
/// time that the events of the last commits have.
const GRACE: Duration = Duration::from_secs(2);

/// The ends of a run other than those of its pipelines.
struct Ends<'a> {
    models: Vec<BoxFuture<'static, (String, Failure)>>,
    stuck: Vec<BoxFuture<'static, RunError>>,
    of_commits: &'a mut CommitPipelines,
}

/// How the pipelines came to their end, and when they were asked to stop, if they were.
struct Driven {
    ended: Result<(), RunError>,
    stopped: Option<Instant>,
}

/// Runs the pipelines until all have ended, a model has ended, an input is stuck, or the shutdown
/// timeout after `stop` has passed. A failed pipeline of committed offsets cancels `stop`.
async fn drive(
    pipelines: Vec<Pipeline>,
    ends: Ends<'_>,
    stop: &CancellationToken,
    shutdown_timeout: Duration,
) -> Driven {
    let model_ended = first(ends.models);
    let stuck = async {
        let error = first(ends.stuck).await;
        tokio::time::sleep(GRACE).await;
        error
    };
    let mut failed = None;
    let watch_commits = async {
        failed = Some(ends.of_commits.failed().await);
        stop.cancel();
        std::future::pending().await
    };
    let mut stopped = None;
    let overdue = async {
        stop.cancelled().await;
        stopped = Some(Instant::now());
        tracing::info!("stopping: answering the requests in flight");
        tokio::time::sleep(shutdown_timeout).await;
    };
    // Each pipeline runs in its own task, so that an expression that never returns cannot keep this
    // function from noticing the shutdown timeout. After an error the loop waits for the other
    // pipelines, because the failed one ends them through the receipts and flows that they share.
    let mut running: JoinSet<_> = pipelines.into_iter().map(Pipeline::run).collect();
    let run = async {
        let mut ended = Ok(());
        while let Some(next) = running.join_next().await {
            ended = ended.and(result(next));
        }
        ended
    };
    let ended = tokio::select! {
        ended = run => ended.map_err(RunError::from),
        (name, failure) = model_ended => Err(RunError::ModelEnded { name, failure }),
        error = stuck => Err(error),
        () = overdue => Err(RunError::Overdue { after: shutdown_timeout }),
        never = watch_commits => never,
    };
    let ended = match failed {
        Some(error) => Err(error.into()),
        None => ended,
    };
    Driven { ended, stopped }
}

/// Waits for the first of the futures; for ever if there is none.
async fn first<T>(futures: Vec<BoxFuture<'static, T>>) -> T {
    if futures.is_empty() {
        return std::future::pending().await;
    }
    select_all(futures).await.0
}

fn tell(observer: &Observer, progress: Progress) {
    let mut observer = observer.lock();
    observer(progress);
}

//! The loop on a model's thread: build, warm up, serve, and build again when it is lost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_stream::{Batch, BatchResult, Failure};
use metrics::{Histogram, histogram};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{Error, Model, WarmUp};

/// One batch on its way to the model.
pub(crate) struct Job<M: Model> {
    pub(crate) batch: Batch<M::Input>,
    pub(crate) reply: oneshot::Sender<BatchResult<M::Output>>,
}

/// What the thread owns besides the model itself.
pub(crate) struct Worker<B, P> {
    name: String,
    build: B,
    on_warm_up: P,
    end: Arc<OnceLock<String>>,
}

impl<B, P> Worker<B, P> {
    pub(crate) fn new(name: &str, build: B, on_warm_up: P, end: Arc<OnceLock<String>>) -> Self {
        Self { name: name.to_owned(), build, on_warm_up, end }
    }

    /// Runs on the model's thread until the last handle is dropped or the model cannot be rebuilt.
    pub(crate) fn run<M>(
        mut self,
        mut jobs: mpsc::Receiver<Job<M>>,
        ready: oneshot::Sender<Result<String, Error>>,
    ) where
        M: Model,
        B: Fn() -> Result<M, Error>,
        P: FnMut(WarmUp),
    {
        let mut model = match self.start() {
            Ok(model) => model,
            Err(error) => {
                // Nobody is left to tell when the caller has given up waiting.
                drop(ready.send(Err(error)));
                return;
            }
        };
        if ready.send(Ok(model.describe())).is_err() {
            return;
        }
        let metrics = Metrics::new(&self.name);
        while let Some(Job { batch, reply }) = jobs.blocking_recv() {
            // The caller may have given up while the batch waited.
            if reply.is_closed() {
                continue;
            }
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| model.infer(&batch)));
            metrics.count(started.elapsed());
            let why_lost = match outcome {
                Err(_) => Some("it panicked"),
                Ok(_) => model.is_lost().then_some("its device failed"),
            };
            drop(reply.send(checked(outcome, batch.len())));
            if let Some(why) = why_lost {
                error!(model = self.name, "the model is built again: {why}");
                forget(model);
                model = match self.start() {
                    Ok(model) => model,
                    Err(error) => return self.give_up(&error),
                };
                info!(model = self.name, "the model is back");
            }
        }
    }

    /// Builds and warms up the model, a panic turned into an error.
    fn start<M>(&mut self) -> Result<M, Error>
    where
        M: Model,
        B: Fn() -> Result<M, Error>,
        P: FnMut(WarmUp),
    {
        catch_unwind(AssertUnwindSafe(|| {
            let mut model = (self.build)()?;
            model.warm_up(&mut self.on_warm_up)?;
            Ok(model)
        }))
        .unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }))
    }

    fn give_up(&self, error: &Error) {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            why = format!("{why}: {inner}");
            cause = inner.source();
        }
        error!(model = self.name, why, "the model could not be built again, its thread ends");
        // This is the only place that sets it.
        drop(self.end.set(format!("it could not be built again after a failure: {why}")));
    }
}

/// What a model's thread does, as metrics. The device idles for what is missing from the time that has passed.
struct Metrics {
    seconds: Histogram,
}

impl Metrics {
    fn new(model: &str) -> Self {
        let seconds = histogram!("forebay_model_batch_seconds", "model" => model.to_owned());
        Self { seconds }
    }

    fn count(&self, took: Duration) {
        self.seconds.record(took.as_secs_f64());
    }
}

/// What the caller gets for a batch of `expected` members.
fn checked<T>(
    outcome: Result<BatchResult<T>, Box<dyn Any + Send>>,
    expected: usize,
) -> BatchResult<T> {
    match outcome {
        // The model is built again, so another attempt finds a new one.
        Err(panic) => Err(Failure::new("model_panicked", panic_message(&*panic)).transient()),
        Ok(Ok(results)) if results.len() != expected => Err(Failure::new(
            "wrong_result_count",
            format_args!("the model returned {} results for {expected} inputs", results.len()),
        )),
        Ok(result) => result,
    }
}

/// Drops a model that has panicked, which may panic again.
fn forget<M>(model: M) {
    if catch_unwind(AssertUnwindSafe(|| drop(model))).is_err() {
        warn!("dropping the model panicked too; what it held may be lost");
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

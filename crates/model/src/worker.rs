//! The loop on a model's thread: build, warm up, serve, and build again when it is lost.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use forebay_stream::{Batch, BatchResult, Failure};
use futures::FutureExt as _;
use metrics::{Histogram, histogram};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::device_clock::DeviceClock;
use crate::{Error, Launched, Model, WarmUp};

/// One batch on its way to the model.
pub(crate) struct Job<M: Model> {
    pub(crate) batch: Batch<M::Input>,
    pub(crate) reply: oneshot::Sender<Started<M::Output>>,
}

/// What has become of a job.
pub(crate) struct Started<T> {
    pub(crate) launched: Launched<T>,
    /// How long that took.
    pub(crate) launch: Duration,
}

/// What is known of a model that serves.
pub(crate) struct Ready {
    pub(crate) description: String,
    pub(crate) overlaps: bool,
}

/// What the thread owns besides the model itself.
pub(crate) struct Worker<B, P> {
    name: String,
    build: B,
    on_warm_up: P,
    end: Arc<OnceLock<String>>,
    // Whether somebody who waited for results has seen a panic.
    has_panicked: Arc<AtomicBool>,
}

impl<B, P> Worker<B, P> {
    pub(crate) fn new(name: &str, build: B, on_warm_up: P, end: Arc<OnceLock<String>>) -> Self {
        let has_panicked = Arc::default();
        Self { name: name.to_owned(), build, on_warm_up, end, has_panicked }
    }

    /// Runs on the model's thread until the last handle is dropped or the model cannot be rebuilt.
    pub(crate) fn run<M>(
        mut self,
        mut jobs: mpsc::Receiver<Job<M>>,
        ready: oneshot::Sender<Result<Ready, Error>>,
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
        let known = Ready { description: model.describe(), overlaps: model.overlaps() };
        if ready.send(Ok(known)).is_err() {
            return;
        }
        let busy = Arc::new(DeviceMetrics::new(&self.name));
        while let Some(Job { batch, reply }) = jobs.blocking_recv() {
            // The caller may have given up while the batch waited.
            if reply.is_closed() {
                continue;
            }
            // The batch before may have lost it while nobody was looking.
            model = match self.revived(model) {
                Ok(model) => model,
                Err(error) => return self.give_up(&error),
            };
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| model.launch(&batch)));
            let launch = started.elapsed();
            if outcome.is_err() {
                self.has_panicked.store(true, Ordering::Relaxed);
            }
            let launched = self.watched(outcome, batch.len(), started, &busy);
            drop(reply.send(Started { launched, launch }));
            model = match self.revived(model) {
                Ok(model) => model,
                Err(error) => return self.give_up(&error),
            };
        }
    }

    /// The model, built again if it is lost.
    fn revived<M>(&mut self, model: M) -> Result<M, Error>
    where
        M: Model,
        B: Fn() -> Result<M, Error>,
        P: FnMut(WarmUp),
    {
        let why = match (self.has_panicked.swap(false, Ordering::Relaxed), model.is_lost()) {
            (true, _) => "it panicked",
            (false, true) => "its device failed",
            (false, false) => return Ok(model),
        };
        error!(model = self.name, "the model is built again: {why}");
        forget(model);
        let model = self.start()?;
        info!(model = self.name, "the model is back");
        Ok(model)
    }

    /// What was launched, with its time counted and its results checked as soon as they are there.
    fn watched<T: Send + 'static>(
        &self,
        outcome: thread::Result<Launched<T>>,
        expected: usize,
        started: Instant,
        busy: &Arc<DeviceMetrics>,
    ) -> Launched<T> {
        let (results, takes) = match outcome {
            Ok(Launched::Running { results, takes }) => (results, takes),
            Ok(Launched::Done(results)) => {
                busy.count(started);
                return Launched::Done(checked(Ok(results), expected));
            }
            Err(panic) => {
                busy.count(started);
                return Launched::Done(checked(Err(panic), expected));
            }
        };
        let (busy, has_panicked) = (Arc::clone(busy), Arc::clone(&self.has_panicked));
        let results = AssertUnwindSafe(results).catch_unwind().map(move |outcome| {
            busy.count(started);
            if outcome.is_err() {
                has_panicked.store(true, Ordering::Relaxed);
            }
            checked(outcome, expected)
        });
        Launched::Running { results: results.boxed(), takes }
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

/// What a model does, as metrics. The device idles for what is missing from the time that has passed.
struct DeviceMetrics {
    seconds: Histogram,
    clock: DeviceClock,
}

impl DeviceMetrics {
    fn new(model: &str) -> Self {
        let seconds = histogram!("forebay_model_batch_seconds", "model" => model.to_owned());
        Self { seconds, clock: DeviceClock::default() }
    }

    /// A batch that `started` then is over.
    fn count(&self, started: Instant) {
        self.seconds.record(self.clock.done(started).as_secs_f64());
    }
}

/// What the caller gets for a batch of `expected` members.
fn checked<T>(outcome: thread::Result<BatchResult<T>>, expected: usize) -> BatchResult<T> {
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

//! `Worker`: the loop on a model's thread. It builds the model, warms it up, gives it batches, and
//! rebuilds it if it panicked or lost its device.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use forebay_stream::codes::WRONG_RESULT_COUNT;
use forebay_stream::{Batch, BatchResult, Failure};
use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::device_clock::DeviceClock;
use crate::work::WorkLog;
use crate::{Error, Launched, Model, WarmUp, codes};

/// A batch for the model, with the channel for its results.
pub(crate) struct Job<M: Model> {
    pub(crate) batch: Batch<M::Input>,
    /// Closed if the caller has given up.
    pub(crate) reply: oneshot::Sender<Started<M::Output>>,
}

/// The reply to a [`Job`], sent when the batch was launched.
pub(crate) struct Started<T> {
    pub(crate) launched: Launched<T>,
    /// How long [`Model::launch`] took.
    pub(crate) launch: Duration,
}

/// The properties of a model that is ready to serve.
pub(crate) struct Ready {
    pub(crate) description: String,
    pub(crate) overlaps: bool,
}

/// The state of a model's thread apart from the model itself.
pub(crate) struct Worker<B, P> {
    name: String,
    build: B,
    on_warm_up: P,
    /// Set to the reason if the thread ends because the model cannot be rebuilt.
    end: Arc<OnceLock<String>>,
    // Set when a batch panicked, and reset when the model is rebuilt. Relaxed, because no other
    // data depends on it.
    has_panicked: Arc<AtomicBool>,
    work: Arc<WorkLog>,
}

impl<B, P> Worker<B, P> {
    pub(crate) fn new(
        name: &str,
        build: B,
        on_warm_up: P,
        end: Arc<OnceLock<String>>,
        work: Arc<WorkLog>,
    ) -> Self {
        let has_panicked = Arc::default();
        Self { name: name.to_owned(), build, on_warm_up, end, has_panicked, work }
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
                // Sending fails only if the caller has given up, and then nobody needs the error.
                drop(ready.send(Err(error)));
                return;
            }
        };
        let properties = Ready { description: model.describe(), overlaps: model.overlaps() };
        if ready.send(Ok(properties)).is_err() {
            return;
        }
        let clock = Arc::new(DeviceClock::default());
        while let Some(Job { batch, reply }) = jobs.blocking_recv() {
            // The caller may have given up while the batch waited.
            if reply.is_closed() {
                continue;
            }
            // Checks again, because the results of the previous batch are awaited on another thread
            // and may have failed since the last check.
            model = match self.rebuilt_if_lost(model) {
                Ok(model) => model,
                Err(error) => return self.give_up(&error),
            };
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| model.launch(&batch)));
            let launch = started.elapsed();
            if outcome.is_err() {
                self.has_panicked.store(true, Ordering::Relaxed);
            }
            let launched = self.observed(outcome, batch.len(), started, &clock);
            drop(reply.send(Started { launched, launch }));
            model = match self.rebuilt_if_lost(model) {
                Ok(model) => model,
                Err(error) => return self.give_up(&error),
            };
        }
    }

    /// Returns the model, rebuilt if it panicked or lost its device.
    fn rebuilt_if_lost<M>(&mut self, model: M) -> Result<M, Error>
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
        error!(model = self.name, "rebuilding the model: {why}");
        self.work.lost();
        drop_lost(model);
        let model = self.start()?;
        self.work.rebuilt();
        info!(model = self.name, "the model is rebuilt");
        Ok(model)
    }

    /// Returns the launched batch such that, when it ends, its results are checked and its device
    /// time is recorded. `outcome` is the result of the call of [`Model::launch`], `expected` the
    /// number of the batch's members.
    fn observed<T: Send + 'static>(
        &self,
        outcome: thread::Result<Launched<T>>,
        expected: usize,
        started: Instant,
        clock: &Arc<DeviceClock>,
    ) -> Launched<T> {
        let (results, takes) = match outcome {
            Ok(Launched::Running { results, takes }) => (results, takes),
            Ok(Launched::Done(results)) => {
                self.work.batch(expected, clock.done(started));
                return Launched::Done(check_results(Ok(results), expected));
            }
            Err(panic) => {
                self.work.batch(expected, clock.done(started));
                return Launched::Done(check_results(Err(panic), expected));
            }
        };
        let clock = Arc::clone(clock);
        let work = Arc::clone(&self.work);
        let has_panicked = Arc::clone(&self.has_panicked);
        let results = AssertUnwindSafe(results).catch_unwind().map(move |outcome| {
            work.batch(expected, clock.done(started));
            if outcome.is_err() {
                has_panicked.store(true, Ordering::Relaxed);
            }
            check_results(outcome, expected)
        });
        Launched::Running { results: results.boxed(), takes }
    }

    /// Builds and warms up the model. A panic is returned as [`Error::Panicked`].
    fn start<M>(&mut self) -> Result<M, Error>
    where
        M: Model,
        B: Fn() -> Result<M, Error>,
        P: FnMut(WarmUp),
    {
        let started = Instant::now();
        catch_unwind(AssertUnwindSafe(|| {
            let mut model = (self.build)()?;
            model.warm_up(&mut self.on_warm_up)?;
            self.work.warmed_up(started.elapsed());
            Ok(model)
        }))
        .unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }))
    }

    /// Records why the model could not be rebuilt. The thread ends after this.
    fn give_up(&self, error: &Error) {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            why = format!("{why}: {inner}");
            cause = inner.source();
        }
        error!(model = self.name, why, "the model could not be rebuilt; its thread ends");
        // Setting cannot fail, because only this function sets it, and it is called once.
        drop(self.end.set(format!("it could not be rebuilt after a failure: {why}")));
    }
}

/// Checks the results of a batch of `expected` members. A panic and a wrong number of results
/// become failures of the batch.
fn check_results<T>(outcome: thread::Result<BatchResult<T>>, expected: usize) -> BatchResult<T> {
    match outcome {
        // Transient, because the model is rebuilt before another attempt.
        Err(panic) => Err(Failure::new(codes::MODEL_PANICKED, panic_message(&*panic)).transient()),
        Ok(Ok(results)) if results.len() != expected => Err(Failure::new(
            WRONG_RESULT_COUNT,
            format_args!("the model returned {} results for {expected} inputs", results.len()),
        )),
        Ok(result) => result,
    }
}

/// Drops a model that has panicked or lost its device. Catches the panic if dropping it panics too.
fn drop_lost<M>(model: M) {
    if catch_unwind(AssertUnwindSafe(|| drop(model))).is_err() {
        warn!("dropping the model panicked; its memory may not be freed");
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

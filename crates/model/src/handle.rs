//! `ModelHandle`: the asynchronous interface to a model that lives on its own thread.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::thread;

use forebay_stream::{Batch, BatchResult, Failure, MapBatch, Pace, at_most};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::device_schedule::DeviceSchedule;
use crate::work::WorkLog;
use crate::worker::{Job, Ready, Started, Worker};
use crate::{Error, Launched, Model, WarmUp, Work, codes};

/// Most batches that a model's thread has at a time: one that is computed, and one that waits or is
/// prepared. The second one keeps the device busy. With more, the members of a batch would have to
/// be chosen earlier, and would not include inputs that arrive in the meantime.
const IN_HAND: NonZeroUsize = at_most(2);

/// A handle to a model that runs on its own thread, callable from any task.
///
/// Clones share the thread, which takes batches one at a time and ends when the last clone is
/// dropped. While it computes one batch, at most one more waits for the model, or is prepared by it
/// if the model [overlaps](Model::overlaps) batches. Further callers wait in
/// [`call`](MapBatch::call).
///
/// A panic inside [`Model::infer`] fails its batch with the code `model_panicked`, and the model is
/// rebuilt before the next one. A batch fails with `wrong_result_count` if the model does not
/// return one result for each input. If the model cannot be rebuilt, every further call fails with
/// `model_unavailable`; see [`closed`](Self::closed).
pub struct ModelHandle<M: Model> {
    jobs: mpsc::Sender<Job<M>>,
    description: Arc<str>,
    overlaps: bool,
    in_hand: Arc<Semaphore>,
    schedule: Arc<DeviceSchedule>,
    /// The reason why the thread ended although there are handles. The thread sets it before it
    /// drops the receiver of `jobs`, so that a caller who finds `jobs` closed also finds the
    /// reason.
    end: Arc<OnceLock<String>>,
    work: Arc<WorkLog>,
}

impl<M: Model> ModelHandle<M> {
    /// Builds and warms up a model on a new thread called `name`, and returns when it is ready to
    /// serve.
    ///
    /// `build` runs on the new thread, and again whenever the model has panicked or is
    /// [lost](Model::is_lost). `on_warm_up` is called for every step of the warm-up.
    ///
    /// # Errors
    ///
    /// The error of `build` or [`Model::warm_up`], [`Error::Panicked`] if one of them panicked, or
    /// [`Error::Thread`] if the thread cannot be started.
    pub async fn spawn(
        name: &str,
        build: impl Fn() -> Result<M, Error> + Send + 'static,
        on_warm_up: impl FnMut(WarmUp) + Send + 'static,
    ) -> Result<Self, Error> {
        let (jobs, waiting) = mpsc::channel(IN_HAND.get());
        let (ready, until_ready) = oneshot::channel();
        let end = Arc::new(OnceLock::new());
        let work = Arc::new(WorkLog::new(name));
        let worker = Worker::new(name, build, on_warm_up, Arc::clone(&end), Arc::clone(&work));
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run(waiting, ready))
            .map_err(|source| Error::Thread { name: name.to_owned(), source })?;
        let Ready { description, overlaps } = until_ready.await.unwrap_or(Err(Error::Stopped))?;
        Ok(Self {
            jobs,
            description: description.into(),
            overlaps,
            in_hand: Arc::new(Semaphore::new(IN_HAND.get())),
            schedule: Arc::new(DeviceSchedule::new()),
            end,
            work,
        })
    }

    /// Returns one line about the model and its device, for start-up logs.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Returns how much the model has done.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work.get()
    }

    /// Waits until the thread has ended because the model could not be rebuilt, and returns why.
    ///
    /// Stays pending as long as the thread runs, so that a pipeline can wait for this and for its
    /// own end at the same time.
    pub async fn closed(&self) -> Failure {
        self.jobs.closed().await;
        self.unavailable()
    }

    /// Returns whether the thread has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Returns a key that orders models by when they are expected to be free: the model with the
    /// smaller key is free sooner.
    pub(crate) fn load(&self) -> (usize, Instant) {
        self.schedule.load()
    }

    /// Returns the failure of a call after the thread has ended.
    fn unavailable(&self) -> Failure {
        let why = self.end.get().map_or("its thread has ended", String::as_str);
        Failure::new(codes::MODEL_UNAVAILABLE, format_args!("the model is unavailable: {why}"))
    }
}

impl<M: Model> MapBatch<M::Input> for ModelHandle<M> {
    type Output = M::Output;

    async fn call(&self, batch: Batch<M::Input>) -> BatchResult<M::Output> {
        let mut in_hand = self.schedule.begin();
        // The permit is held until the results are there. Acquiring it cannot fail, because the
        // semaphore is never closed.
        let permit = Arc::clone(&self.in_hand).acquire_owned().await;
        let (reply, started) = oneshot::channel();
        self.jobs.send(Job { batch, reply }).await.map_err(|_| self.unavailable())?;
        let Started { launched, launch } = started.await.map_err(|_| self.unavailable())?;
        match launched {
            Launched::Done(results) => results,
            Launched::Running { results, takes } => {
                in_hand.launched(launch, takes);
                // The results are awaited in a separate task. So the end of the batch is noticed
                // when it happens, even if the caller does not poll at that time, and the batch
                // stays counted as in hand if the caller gives up.
                let results = tokio::spawn(async move {
                    let _until_done = (permit, in_hand);
                    results.await
                });
                results.await.unwrap_or_else(|_| Err(self.unavailable()))
            }
        }
    }

    /// Results keep the order of their batches, because a device computes one batch after the
    /// other.
    fn pace(&self) -> Pace {
        let schedule = Arc::clone(&self.schedule);
        let slots = if self.overlaps { IN_HAND } else { NonZeroUsize::MIN };
        Pace::new(slots).in_order().when(move || {
            let schedule = Arc::clone(&schedule);
            async move { schedule.ready().await }
        })
    }
}

impl<M: Model> Clone for ModelHandle<M> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            description: Arc::clone(&self.description),
            overlaps: self.overlaps,
            in_hand: Arc::clone(&self.in_hand),
            schedule: Arc::clone(&self.schedule),
            end: Arc::clone(&self.end),
            work: Arc::clone(&self.work),
        }
    }
}

impl<M: Model> std::fmt::Debug for ModelHandle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModelHandle").field(&self.description).finish()
    }
}

#[cfg(test)]
mod tests;

//! `ModelHandle`: the asynchronous face of a model that lives on its own thread.

use std::sync::{Arc, OnceLock};
use std::thread;

use forebay_stream::{Batch, BatchResult, Failure, MapBatch};
use tokio::sync::{mpsc, oneshot};

use crate::worker::{Job, Worker};
use crate::{Error, Model, WarmUp};

/// Batches that may wait while one computes: enough to keep the device busy, few enough to bind late.
const WAITING_BATCHES: usize = 1;

/// The code of what a thread that has ended did not take.
pub(crate) const UNAVAILABLE: &str = "model_unavailable";

/// A model on a thread of its own, called from anywhere.
///
/// Clones share the one thread, which takes batches one at a time and ends when the last clone is dropped. At most one
/// batch waits while another computes; further callers wait in [`call`](MapBatch::call).
///
/// A panic inside [`Model::infer`] fails that batch with the code `model_panicked`, and the model is built anew before
/// the next one. A model that returns another number of results than it was given inputs fails its batch with
/// `wrong_result_count`. Once the model cannot be rebuilt every call fails with `model_unavailable`; see
/// [`closed`](Self::closed).
pub struct ModelHandle<M: Model> {
    jobs: mpsc::Sender<Job<M>>,
    description: Arc<str>,
    /// Why the thread ended early. Set before the thread drops its end of `jobs`.
    end: Arc<OnceLock<String>>,
}

impl<M: Model> ModelHandle<M> {
    /// Builds and warms up a model on a new thread called `name`, and returns when it is ready to serve.
    ///
    /// `build` runs on the new thread, and again whenever the model has panicked. `on_warm_up` hears of every step of
    /// the warm-up.
    ///
    /// # Errors
    ///
    /// What `build` or [`Model::warm_up`] returned, [`Error::Panicked`] if one of them panicked, or [`Error::Thread`]
    /// if there is no thread to be had.
    pub async fn spawn(
        name: &str,
        build: impl Fn() -> Result<M, Error> + Send + 'static,
        on_warm_up: impl FnMut(WarmUp) + Send + 'static,
    ) -> Result<Self, Error> {
        let (jobs, waiting) = mpsc::channel(WAITING_BATCHES);
        let (ready, until_ready) = oneshot::channel();
        let end = Arc::new(OnceLock::new());
        let worker = Worker::new(name, build, on_warm_up, Arc::clone(&end));
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run(waiting, ready))
            .map_err(|source| Error::Thread { name: name.to_owned(), source })?;
        let description = until_ready.await.unwrap_or(Err(Error::Stopped))?;
        Ok(Self { jobs, description: description.into(), end })
    }

    /// One line on the model and its device, for start-up logs.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Waits until the thread has ended before its handles were dropped, and says why.
    ///
    /// Never returns while the model serves, so that it can be raced against the rest of a pipeline.
    pub async fn closed(&self) -> Failure {
        self.jobs.closed().await;
        self.unavailable()
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    fn unavailable(&self) -> Failure {
        let why = self.end.get().map_or("its thread has ended", String::as_str);
        Failure::new(UNAVAILABLE, format_args!("the model is gone: {why}"))
    }
}

impl<M: Model> MapBatch<M::Input> for ModelHandle<M> {
    type Output = M::Output;

    async fn call(&self, batch: Batch<M::Input>) -> BatchResult<M::Output> {
        let (reply, result) = oneshot::channel();
        self.jobs.send(Job { batch, reply }).await.map_err(|_| self.unavailable())?;
        result.await.unwrap_or_else(|_| Err(self.unavailable()))
    }
}

impl<M: Model> Clone for ModelHandle<M> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            description: Arc::clone(&self.description),
            end: Arc::clone(&self.end),
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

//! `Pump`: a task that carries events from one stage to the next.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::fault::Fault;
use crate::panics;

/// A task that belongs to what is downstream of it: spawned when that is first polled, aborted when that is dropped.
pub(crate) struct Pump {
    state: Mutex<State>,
    started: AtomicBool,
}

struct State {
    waiting: Option<BoxFuture<'static, ()>>,
    running: JoinSet<()>,
}

impl Pump {
    /// A task that runs `carry`. When that ends, `ends` is dropped, which must tell downstream that nothing more
    /// comes; a panic is in `fault` before, put
    /// down to the stage that it came from, or else to `stage`.
    pub(crate) fn new(
        stage: Arc<str>,
        fault: Fault,
        carry: impl Future<Output = ()> + Send + 'static,
        ends: impl Send + 'static,
    ) -> Self {
        let task = async move {
            if let Err(panic) = AssertUnwindSafe(carry).catch_unwind().await {
                fault.raise(panics::caught(&*panic, &stage));
            }
            drop(ends);
        };
        let waiting = State { waiting: Some(Box::pin(task)), running: JoinSet::new() };
        Self { state: Mutex::new(waiting), started: AtomicBool::new(false) }
    }

    /// Spawns the task, unless it has been. Only once something is polled there is a runtime for certain.
    pub(crate) fn start(&self) {
        // Asked for at every poll. Whoever sees it unset finds out under the lock.
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        self.started.store(true, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = state.waiting.take() {
            state.running.spawn(task.in_current_span());
        }
    }
}

//! `Pump`: a task that carries events from one stage to the next.

use parking_lot::Mutex;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::fault::Fault;
use crate::panics;

/// A task that belongs to the stream downstream of it: spawned when that stream is first polled,
/// aborted when it is dropped.
pub(crate) struct Pump {
    // Boxed, because the stream that owns a pump may move it with every event, and a box is cheap
    // to move.
    state: Box<Mutex<State>>,
    started: AtomicBool,
}

struct State {
    waiting: Option<BoxFuture<'static, ()>>,
    running: JoinSet<()>,
}

impl Pump {
    /// Creates a task that runs `carry`. When `carry` ends, the task drops `ends`, which must tell
    /// downstream that no more events come. If `carry` panics, the panic is raised in `fault`
    /// first, attributed to the stage that it came from, or to `stage` if that is not known.
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
        Self { state: Box::new(Mutex::new(waiting)), started: AtomicBool::new(false) }
    }

    /// Spawns the task, unless it was spawned before. To be called when the stream is polled,
    /// because only then a runtime is certain to exist.
    pub(crate) fn start(&self) {
        // Called at every poll, so it must be cheap. If two threads both see `false`, the `take`
        // under the lock lets only one of them spawn the task.
        if self.started.load(Ordering::Relaxed) {
            return;
        }
        self.started.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        if let Some(task) = state.waiting.take() {
            state.running.spawn(task.in_current_span());
        }
    }
}

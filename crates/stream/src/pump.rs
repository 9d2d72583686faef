//! `Pump`: a task that carries events from one stage to the next.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::PipelineError;
use crate::flow::Fault;

/// A task that belongs to what is downstream of it: spawned when that is first polled, aborted when that is dropped.
pub(crate) struct Pump(Mutex<State>);

struct State {
    waiting: Option<BoxFuture<'static, ()>>,
    running: JoinSet<()>,
}

impl Pump {
    /// A task that runs `carry`. When that ends, `ends` is dropped, which must tell downstream that nothing more
    /// comes; a panic is in `fault` before.
    pub(crate) fn new(
        stage: Arc<str>,
        fault: Fault,
        carry: impl Future<Output = ()> + Send + 'static,
        ends: impl Send + 'static,
    ) -> Self {
        let task = async move {
            if let Err(panic) = AssertUnwindSafe(carry).catch_unwind().await {
                fault.set(PipelineError::Panicked { stage, message: message(&*panic) });
            }
            drop(ends);
        };
        Self(Mutex::new(State { waiting: Some(Box::pin(task)), running: JoinSet::new() }))
    }

    /// Spawns the task, unless it has been. Only once something is polled there is a runtime for certain.
    pub(crate) fn start(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = state.waiting.take() {
            state.running.spawn(task.in_current_span());
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the panic has no message".into())
}

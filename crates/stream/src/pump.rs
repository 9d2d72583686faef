//! `Pump`: a task that carries events from one stage to the next.

use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::{JoinSet, consume_budget, yield_now};
use tokio::time::Instant;
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

/// Keeps a pump from holding up the tasks behind its queue. A pump whose upstream is always ready
/// never waits, so it has to yield; and a task that it wakes may have to run on its thread.
pub(crate) struct GiveWay {
    // The time since which the pump has not yielded.
    since: Instant,
    // Whether the pump yields at this moment, because it waits.
    waits: bool,
    // The number of events since the clock was read, and the number at which it is read again.
    events: u32,
    read_at: u32,
}

impl GiveWay {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), waits: false, events: 0, read_at: 1 }
    }

    /// Waits for `future`. A pump waits for nothing else, apart from
    /// [`after_event`](Self::after_event).
    pub(crate) async fn wait<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if std::mem::take(&mut self.waits) {
                *self = Self::new();
            }
            let polled = future.as_mut().poll(cx);
            self.waits = polled.is_pending();
            polled
        })
        .await
    }

    /// To be awaited after each event. Yields when the pump has not done so for a millisecond, and
    /// after as many events as tokio's budget allows.
    pub(crate) async fn after_event(&mut self) {
        const LONG: Duration = Duration::from_millis(1);
        // Reading the clock costs a tenth of what a pump costs for an event. As long as events are
        // quick, it is therefore read after every eighth only.
        const RARELY: u32 = 8;
        self.events += 1;
        if self.events >= self.read_at {
            self.events = 0;
            self.read_at = RARELY.min(self.read_at * 2);
            if self.since.elapsed() >= LONG {
                yield_now().await;
                *self = Self::new();
                return;
            }
        }
        consume_budget().await;
    }
}

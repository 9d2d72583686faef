//! Helpers of the operators' tests.

use parking_lot::Mutex;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::{Event, Flow, Outcome, Receipt};

/// Runs a future on a runtime whose clock is paused: the clock jumps to the next timer when all
/// tasks wait, so tests do not really sleep.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
}

pub(crate) fn size(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Returns a stream of the numbers in `at`. Each number comes that many milliseconds, on the
/// runtime's paused clock, after this call.
pub(crate) fn timed(at: Vec<u64>) -> impl Stream<Item = u64> + Send + 'static {
    let start = Instant::now();
    stream::iter(at).then(move |at| async move {
        sleep_until(start + Duration::from_millis(at)).await;
        at
    })
}

/// The outcomes of the inputs of a flow, in the order in which the inputs came.
#[derive(Clone, Default)]
pub(crate) struct Tracked(Arc<Mutex<Vec<Option<Outcome>>>>);

impl Tracked {
    /// Returns a flow of values whose outcomes are recorded.
    pub(crate) fn flow<I>(values: I) -> (Flow<I::Item>, Self)
    where
        I: IntoIterator<Item: Send + 'static, IntoIter: Send + 'static>,
    {
        Self::stream(stream::iter(values))
    }

    /// Like [`flow`](Self::flow), for values that come over time.
    pub(crate) fn stream<T: Send + 'static>(
        values: impl Stream<Item = T> + Send + 'static,
    ) -> (Flow<T>, Self) {
        let tracked = Self::default();
        let log = tracked.clone();
        let events = values.map(move |value| {
            let event = Event { receipt: log.receipt(), ..Event::detached(()) };
            Ok::<_, std::convert::Infallible>(event.with(value))
        });
        (Flow::from_try_events("tracked", events), tracked)
    }

    fn receipt(&self) -> Receipt {
        let log = Arc::clone(&self.0);
        let index = log.lock().len();
        log.lock().push(None);
        Receipt::new(move |outcome| {
            let earlier = log.lock()[index].replace(outcome);
            assert_eq!(earlier, None, "input {index} was settled twice");
        })
    }

    /// Returns every input's outcome; panics if one is still open.
    pub(crate) fn all(&self) -> Vec<Outcome> {
        self.0.lock().iter().cloned().map(Option::unwrap).collect()
    }

    /// Returns `open`, `done`, `abandoned` or the failure's code for each input.
    pub(crate) fn codes(&self) -> Vec<String> {
        let code = |outcome: &Option<Outcome>| match outcome {
            None => "open".into(),
            Some(Outcome::Done) => "done".into(),
            Some(Outcome::Abandoned) => "abandoned".into(),
            Some(Outcome::Failed(failure)) => failure.code().into(),
        };
        self.0.lock().iter().map(code).collect()
    }
}

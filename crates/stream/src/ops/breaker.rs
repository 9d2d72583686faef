//! `breaker`: ends the flow when too many inputs fail, so that the rest of them are not answered
//! with errors.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::stream::StreamExt as _;

use crate::fault::Fault;
use crate::{Event, Flow, NodeKind, Outcome, PipelineError, Receipt, Settle};

/// The conditions under which [`Flow::breaker`] trips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// The share of failures among the last `of` inputs at which the breaker trips.
    pub ratio: Ratio,
    /// The number of inputs, the most recent ones, that `ratio` refers to. `ratio` is not checked
    /// before that many inputs have an outcome.
    pub of: NonZeroUsize,
    /// The number of consecutive failures at which the breaker trips; `None` for no such limit. It
    /// is checked from the first input on.
    pub run: Option<NonZeroUsize>,
}

/// A share of something: more than 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// Creates a ratio; `None` unless `ratio` is more than 0 and at most 1.
    #[must_use]
    pub fn new(ratio: f64) -> Option<Self> {
        (ratio > 0.0 && ratio <= 1.0).then_some(Self(ratio))
    }

    /// Returns the share: more than 0 and at most 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Ends the flow with an error when too many inputs fail downstream, so that a broken model, or
    /// a change of the input's format, does not turn a whole topic into error replies and dead
    /// letters.
    ///
    /// Once the breaker has tripped, no failure is passed on: those inputs count as
    /// [abandoned](Outcome::Abandoned), including the one that made it trip. They are not answered,
    /// their offsets stay uncommitted, and they are read again when the pipeline is next started.
    /// The breaker belongs after [`catch`](Flow::catch) and before [`retry`](Flow::retry), where it
    /// counts the failures that remain after all attempts.
    ///
    /// - **Emits** every event.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** downstream, the original receipt of the event fails, until the breaker
    ///   trips; then every run of the flow ends with [`PipelineError::Tripped`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use forebay_stream::{Breaker, Failure, Flow, Ratio, at_most};
    ///
    /// let breaker = Breaker {
    ///     ratio: Ratio::new(0.75).expect("it is a share"),
    ///     of: at_most(4),
    ///     run: None,
    /// };
    /// let positive = |number| if number > 0 { Ok(number) } else { Err(Failure::new("negative", number)) };
    /// let flow = Flow::from_iter([1, -2, 3, -4, 5, -6, -7]).breaker(breaker).try_map(positive);
    /// let error = flow.collect().await.expect_err("of -4, 5, -6, -7 three fail");
    /// assert!(error.to_string().starts_with("the circuit breaker tripped: 3 of the last 4 inputs failed"));
    /// # }
    /// ```
    pub fn breaker(self, breaker: Breaker) -> Self {
        let fault = self.0.fault.clone();
        Self(self.0.apply(NodeKind::Element, "breaker", |upstream, _| {
            let watch = Arc::new(Watch { breaker, fault, seen: Mutex::default() });
            upstream.map(move |event| {
                let (value, Event { meta, receipt, .. }) = event.take();
                let watched = |receipt| Watched { receipt, watch: Arc::clone(&watch) };
                Event { value, meta, receipt: receipt.wrapped(watched) }
            })
        }))
    }
}

/// The state of a breaker, to which its receipts report outcomes.
struct Watch {
    breaker: Breaker,
    fault: Fault,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    // Whether each of the last inputs failed. Invariant: at most as many as the breaker counts.
    last: VecDeque<bool>,
    // The number of failures in `last`.
    failed: usize,
    // The number of failures since the last input that did not fail.
    run: usize,
    tripped: bool,
}

impl Seen {
    fn add(&mut self, failed: bool, of: usize) {
        if self.last.len() == of {
            self.failed -= usize::from(self.last.pop_front() == Some(true));
        }
        self.last.push_back(failed);
        self.failed += usize::from(failed);
        self.run = if failed { self.run + 1 } else { 0 };
    }

    /// Returns how many inputs failed, and of how many, if that is a reason to trip.
    fn excess(&self, breaker: &Breaker) -> Option<Excess> {
        let of = breaker.of.get();
        #[expect(clippy::cast_precision_loss, reason = "2^52 inputs do not fit in memory")]
        let too_many = self.last.len() == of && self.failed as f64 / of as f64 >= breaker.ratio.0;
        if too_many {
            return Some(Excess { failed: self.failed, of });
        }
        let run = breaker.run?.get();
        (self.run >= run).then_some(Excess { failed: run, of: run })
    }
}

/// `failed` of the last `of` inputs failed, which makes the breaker trip.
struct Excess {
    failed: usize,
    of: usize,
}

impl Watch {
    /// Records an outcome; returns the outcome to pass on.
    fn judge(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed(failure) = outcome else {
            if outcome == Outcome::Done {
                self.lock().add(false, self.breaker.of.get());
            }
            return outcome;
        };
        let excess = {
            let mut seen = self.lock();
            if seen.tripped {
                return Outcome::Abandoned;
            }
            seen.add(true, self.breaker.of.get());
            let excess = seen.excess(&self.breaker);
            seen.tripped = excess.is_some();
            excess
        };
        let Some(Excess { failed, of }) = excess else { return Outcome::Failed(failure) };
        self.fault.raise(PipelineError::Tripped { failed, of, last: failure });
        Outcome::Abandoned
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

/// Receives the outcome of an event that passed the breaker.
struct Watched {
    receipt: Receipt,
    watch: Arc<Watch>,
}

impl Settle for Watched {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let outcome = self.watch.judge(outcome);
        self.receipt.resolve(outcome);
    }

    fn stands_for(&self) -> &[Receipt] {
        std::slice::from_ref(&self.receipt)
    }
}

#[cfg(test)]
mod tests;

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
    /// use std::num::NonZeroUsize;
    ///
    /// use forebay_stream::{Breaker, Failure, Flow, Ratio};
    ///
    /// let breaker = Breaker {
    ///     ratio: Ratio::new(0.75).expect("it is a share"),
    ///     of: NonZeroUsize::new(4).expect("4 is not 0"),
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
                let watched = Watched { receipt, watch: Arc::clone(&watch) };
                Event { value, meta, receipt: Receipt::of(watched) }
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
mod tests {
    use std::collections::VecDeque;
    use std::num::NonZeroU32;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures::stream::{self, StreamExt as _};
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep};

    use super::{Breaker, Ratio};
    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow, PipelineError, Release, Retry};

    fn breaker(ratio: f64, of: usize, run: Option<usize>) -> Breaker {
        Breaker { ratio: Ratio::new(ratio).unwrap(), of: size(of), run: run.map(size) }
    }

    fn check(good: bool) -> Result<bool, Failure> {
        if good { Ok(good) } else { Err(Failure::new("bad", "it is")) }
    }

    /// Returns the number of outcomes after which the breaker has to trip; `None` if it must not
    /// trip.
    fn trips_at(inputs: &[bool], percent: usize, of: usize, run: Option<usize>) -> Option<usize> {
        let mut last = VecDeque::new();
        let failures =
            |last: &VecDeque<bool>, n| last.iter().take(n).filter(|good| !**good).count();
        (1..=inputs.len()).find(|seen| {
            last.push_front(inputs[seen - 1]);
            let share = last.len() >= of && failures(&last, of) * 100 >= percent * of;
            let run = run.is_some_and(|run| failures(&last, run) == run);
            !inputs[seen - 1] && (share || run)
        })
    }

    proptest! {
        #[test]
        fn the_breaker_trips_at_the_first_failure_that_is_too_many_and_never_otherwise(
            inputs in prop::collection::vec(prop::bool::weighted(0.7), 0..60),
            percent in 1_usize..=100, of in 1_usize..12, run in prop::option::of(1_usize..6),
        ) {
            #[expect(clippy::cast_precision_loss, reason = "it is at most 100")]
            let ratio = percent as f64 / 100.0;
            let (flow, outcomes) = Tracked::flow(inputs.clone());
            let run_of_it = block_on(flow.breaker(breaker(ratio, of, run)).try_map(check).collect());

            let trips_at = trips_at(&inputs, percent, of, run);
            prop_assert_eq!(run_of_it.is_err(), trips_at.is_some());
            let codes = inputs.iter().enumerate().map(|(index, good)| match good {
                true => "done",
                false if Some(index + 1) == trips_at => "abandoned",
                false => "bad",
            });
            // No input is read after the breaker has tripped.
            prop_assert_eq!(outcomes.codes(), codes.take(trips_at.unwrap_or(usize::MAX)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_ratio_is_more_than_0_and_at_most_1() {
        for wrong in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(wrong), None);
        }
        assert_eq!(Ratio::new(1.0).map(Ratio::get), Some(1.0));
    }

    #[test]
    fn the_error_says_how_many_inputs_failed_and_with_which_last_failure() {
        let flow = Flow::from_iter([true, false, true, false]).breaker(breaker(0.5, 4, None));
        let error = block_on(flow.try_map(check).named("decode").collect()).unwrap_err();
        assert!(
            matches!(&error, PipelineError::Tripped { failed: 2, of: 4, last } if last.code() == "bad")
        );
        assert_eq!(
            error.to_string(),
            "the circuit breaker tripped: 2 of the last 4 inputs failed; the last failure: bad: it is (at try_map). \
             Find out why they fail, or let the breaker allow more, and start again: inputs without an \
             answer are read again"
        );
    }

    /// An endless flow of inputs, one per millisecond, and a function that fails for all of them
    /// from `first` on.
    fn broken_from(first: u64) -> (Flow<u64>, Tracked, impl FnMut(u64) -> Result<u64, Failure>) {
        let (flow, outcomes) = Tracked::stream(stream::iter(0..).then(|number| async move {
            sleep(Duration::from_millis(1)).await;
            number
        }));
        let works = move |number| {
            if number < first {
                Ok(number)
            } else {
                Err(Failure::new("broken", number).transient())
            }
        };
        (flow, outcomes, works)
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_flow_ends_when_the_breaker_trips_and_later_failures_are_not_answered() {
        let start = Instant::now();
        for release in [Release::AtOnce, Release::InOrder] {
            let (flow, outcomes, works) = broken_from(7);
            let (flow, failures) = flow.catch(size(99), release);
            let retry = Retry {
                attempts: NonZeroU32::new(2).unwrap(),
                backoff: Duration::from_millis(3),
                max_backoff: Duration::from_secs(1),
            };
            let flow = flow.breaker(breaker(1.0, 99, Some(3))).retry(retry, size(99));
            let results =
                flow.partition(size(2), Some(Duration::from_millis(1))).flatten().try_map(works);
            let answers = results.rejoin(failures.map(|failed| failed.input + 1_000));
            let (seen, answered) = mpsc::channel();
            let run = answers.sink_fn(move |number| seen.send(number).unwrap()).run();

            let error = run.await.unwrap_err();
            assert!(matches!(&error, PipelineError::Tripped { failed: 3, of: 3, .. }), "{error}");
            assert!(error.to_string().contains("broken"), "{error}");
            assert_eq!(answered.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 1007, 1008]);
            let codes = outcomes.codes();
            assert!(codes[..9].iter().all(|code| code == "done"), "{codes:?}");
            assert!(
                codes[9..].iter().all(|code| code == "abandoned") && codes.len() > 9,
                "{codes:?}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(1), "nothing had to be cut off");
    }

    #[tokio::test(start_paused = true)]
    async fn results_are_delivered_after_the_breaker_has_tripped() {
        let (flow, outcomes) = Tracked::flow(0..3);
        let slow = async |number| {
            sleep(Duration::from_millis(number)).await;
            if number == 1 { Err(Failure::new("one", number)) } else { Ok(number) }
        };
        let flow = flow.breaker(breaker(1.0, 1, None)).map_async(slow, size(3));
        assert!(flow.collect().await.is_err());
        assert_eq!(outcomes.codes(), ["done", "abandoned", "done"]);
    }

    #[test]
    fn abandoned_inputs_do_not_count() {
        let (flow, outcomes) = Tracked::flow(0..3);
        let fault = flow.0.fault.clone();
        let events = flow.breaker(breaker(1.0, 2, None)).0.stream.collect::<Vec<_>>();
        for event in block_on(events) {
            if event.value < 2 { drop(event) } else { event.receipt.fail(Failure::new("bad", "")) }
        }
        assert_eq!(outcomes.codes(), ["abandoned", "abandoned", "bad"]);
        assert!(!fault.is_raised());
    }
}

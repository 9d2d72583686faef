//! `accumulate` and `scan`: a state that every value updates.

use std::future::ready;

use futures::stream::{BoxStream, Stream, StreamExt as _};

use crate::stage::Stage;
use crate::{Event, Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Replaces each value by the state that `f` makes of the previous state and the value. For a
    /// result that is not the state, see [`scan`](Flow::scan).
    ///
    /// - **Emits** the new state for each value, with the same key and receipt.
    /// - **Backpressures** when downstream does; holds one state.
    /// - **Completes** when upstream completes.
    /// - **On failure** that event's receipt fails, with this stage's name, and the state stays as
    ///   it was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let sums = Flow::from_iter([1, 2, 3]).accumulate(0, |sum, value| Ok(sum + value));
    /// assert_eq!(sums.collect().await?, [1, 3, 6]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn accumulate<S: Clone + Send + 'static>(
        self,
        initial: S,
        mut f: impl FnMut(&S, T) -> Result<S, Failure> + Send + 'static,
    ) -> Flow<S> {
        Flow(self.0.apply(NodeKind::Element, "accumulate", |events, stage| {
            let step = move |state: &S, value| {
                let next = f(state, value)?;
                Ok((next.clone(), next))
            };
            steps(events, stage, initial, step)
        }))
    }

    /// Replaces each value by the result that `f` returns together with the next state. To emit the
    /// state itself, see [`accumulate`](Flow::accumulate).
    ///
    /// - **Emits** one result for each value, with the same key and receipt.
    /// - **Backpressures** when downstream does; holds one state.
    /// - **Completes** when upstream completes.
    /// - **On failure** that event's receipt fails, with this stage's name, and the state stays as
    ///   it was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let steps = Flow::from_iter([3, 4, 9]).scan(0, |before, value| Ok((value, value - before)));
    /// assert_eq!(steps.collect().await?, [3, 1, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<S: Send + 'static, U: Send + 'static>(
        self,
        initial: S,
        f: impl FnMut(&S, T) -> Result<(S, U), Failure> + Send + 'static,
    ) -> Flow<U> {
        Flow(
            self.0
                .apply(NodeKind::Element, "scan", |events, stage| steps(events, stage, initial, f)),
        )
    }
}

/// Emits the results of `f`. `f` returns a new state and does not change the old one, so that a
/// failed step leaves the state unchanged.
fn steps<T: Send + 'static, S: Send + 'static, U: Send + 'static>(
    events: BoxStream<'static, Event<T>>,
    stage: Stage,
    mut last: S,
    mut f: impl FnMut(&S, T) -> Result<(S, U), Failure> + Send + 'static,
) -> impl Stream<Item = Event<U>> + Send + 'static {
    events.filter_map(move |event| {
        let (value, rest) = event.take();
        ready(match f(&last, value) {
            Ok((next, result)) => {
                last = next;
                Some(rest.with(result))
            }
            Err(failure) => {
                stage.fail(rest.receipt, failure);
                None
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Outcome};

    proptest! {
        #[test]
        fn results_agree_with_a_loop_and_a_failed_step_does_not_change_the_state(values: Vec<u8>) {
            let mut sum = 0_u8;
            let mut sums = Vec::new();
            let mut codes = Vec::new();
            for &value in &values {
                match sum.checked_add(value) {
                    Some(next) => {
                        sum = next;
                        sums.push(next);
                        codes.push("done");
                    }
                    None => codes.push("overflow"),
                }
            }
            let (flow, outcomes) = Tracked::flow(values);
            let add = |sum: &u8, value| sum.checked_add(value).ok_or(Failure::new("overflow", value));
            prop_assert_eq!(block_on(flow.accumulate(0, add).collect()).unwrap(), sums);
            prop_assert_eq!(outcomes.codes(), codes);
        }
    }

    #[test]
    fn a_failure_names_its_stage() {
        let (flow, outcomes) = Tracked::flow([1]);
        let refuse = |(): &(), value| Err::<((), ()), _>(Failure::new("no", value));
        assert!(block_on(flow.scan((), refuse).collect()).unwrap().is_empty());
        assert_eq!(outcomes.all(), [Outcome::Failed(Failure::new("no", 1).at("scan"))]);
    }
}

//! `try_map`: one value in, one value or a failure out.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::{Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Replaces each value by the result of `f`. An event for which `f` fails leaves the flow.
    ///
    /// - **Emits** one event for each value that `f` accepts, with the same key and receipt.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** that event's receipt fails, with this stage's name; other events are not
    ///   affected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Failure, Flow};
    ///
    /// let numbers = Flow::from_iter(["1", "two", "3"])
    ///     .try_map(|text| text.parse().map_err(|error| Failure::new("not_a_number", error)));
    /// let numbers: Vec<i32> = numbers.collect().await?;
    /// assert_eq!(numbers, [1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_map<U: Send + 'static>(
        self,
        mut f: impl FnMut(T) -> Result<U, Failure> + Send + 'static,
    ) -> Flow<U> {
        Flow(self.0.apply(NodeKind::Element, "try_map", |events, stage| {
            events.filter_map(move |event| {
                let (result, rest) = event.map(&mut f).take();
                ready(match result {
                    Ok(value) => Some(rest.with(value)),
                    Err(failure) => {
                        stage.fail(rest.receipt, failure);
                        None
                    }
                })
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Outcome};

    #[test]
    fn an_event_fails_alone_and_its_failure_names_the_stage() {
        let (flow, outcomes) = Tracked::flow([1, 2, 3]);
        let odd = |value| if value % 2 == 1 { Ok(value) } else { Err(Failure::new("even", value)) };
        assert_eq!(block_on(flow.named("odd only").try_map(odd).collect()).unwrap(), [1, 3]);
        let failed = Outcome::Failed(Failure::new("even", 2).at("odd only"));
        assert_eq!(outcomes.all(), [Outcome::Done, failed, Outcome::Done]);
    }
}

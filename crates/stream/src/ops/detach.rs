//! `detach`: settles inputs early, so that their source does not wait for them.

use futures::stream::StreamExt as _;

use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Reports every input as done and lets its value go on. Its source does not learn what happens
    /// to the value downstream, including failure and loss: use this if an operator holds events
    /// for long and delivery is not required, such as before the slow side of
    /// [`combine_latest`](Flow::combine_latest) or [`zip_latest`](Flow::zip_latest).
    ///
    /// - **Emits** every event, with its metadata, and a receipt for which no source waits.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter([1, 2]).detach().collect().await?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(self) -> Self {
        Self(self.0.apply(NodeKind::Element, "detach", |events, _| {
            events.map(|event| Event { receipt: event.receipt.release(), ..event })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Outcome};

    proptest! {
        #[test]
        fn everything_passes_and_later_outcomes_are_hidden_from_the_source(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let odd = |value| if value % 2 == 1 { Ok(value) } else { Err(Failure::new("even", value)) };
            let seen = block_on(flow.detach().try_map(odd).collect()).unwrap();
            prop_assert_eq!(seen, values.iter().copied().filter(|value| value % 2 == 1).collect::<Vec<_>>());
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

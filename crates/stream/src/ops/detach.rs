//! `detach`: events whose source need not wait for them.

use futures::stream::StreamExt as _;

use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Reports every input as done and lets its value go on. What happens to it downstream, its failure or loss
    /// included, is unknown to its source: use this where an operator holds events for long and no delivery is owed,
    /// as before the slow side of [`combine_latest`](Flow::combine_latest) or [`zip_latest`](Flow::zip_latest).
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
        fn passes_everything_and_hides_what_happens_to_it(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let odd = |value| if value % 2 == 1 { Ok(value) } else { Err(Failure::new("even", value)) };
            let seen = block_on(flow.detach().try_map(odd).collect()).unwrap();
            prop_assert_eq!(seen, values.iter().copied().filter(|value| value % 2 == 1).collect::<Vec<_>>());
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

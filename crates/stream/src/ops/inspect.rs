//! `inspect`: calls a function with each value.

use futures::stream::StreamExt as _;

use crate::{Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Calls `f` with each value, for logs and measurements. To change values, see
    /// [`map`](Flow::map).
    ///
    /// - **Emits** every event, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// use forebay_stream::Flow;
    ///
    /// let sum = Arc::new(AtomicU32::new(0));
    /// let seen = Arc::clone(&sum);
    /// let flow = Flow::from_iter([1, 2]).inspect(move |value| _ = seen.fetch_add(*value, Ordering::Relaxed));
    /// assert_eq!(flow.collect().await?, [1, 2]);
    /// assert_eq!(sum.load(Ordering::Relaxed), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn inspect(self, mut f: impl FnMut(&T) + Send + 'static) -> Self {
        Self(self.0.apply(NodeKind::Element, "inspect", |events, _| {
            events.inspect(move |event| f(&event.value))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;

    use crate::Outcome;
    use crate::testing::{Tracked, block_on};

    proptest! {
        #[test]
        fn every_value_is_seen_once_and_in_order_and_nothing_changes(values: Vec<u8>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let (show, shown) = mpsc::channel();
            let passed = block_on(flow.inspect(move |&value| show.send(value).unwrap()).collect());
            prop_assert_eq!(passed.unwrap(), values.clone());
            prop_assert_eq!(shown.iter().collect::<Vec<_>>(), values.clone());
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

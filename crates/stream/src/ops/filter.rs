//! `filter` and `remove`: let some values pass.

use std::future::ready;

use futures::stream::{BoxStream, Stream, StreamExt as _};

use crate::{Event, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets the values pass for which `keep` is true. For the opposite, see [`remove`](Flow::remove).
    ///
    /// - **Emits** the events that it keeps, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - An event that is not kept is done: it was discarded on purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter(0..6).filter(|x| x % 2 == 1).collect().await?, [1, 3, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn filter(self, keep: impl FnMut(&T) -> bool + Send + 'static) -> Self {
        Self(self.0.apply(NodeKind::Element, "filter", |events, _| kept(events, keep)))
    }

    /// Lets the values pass for which `discard` is false. For the opposite, see [`filter`](Flow::filter).
    ///
    /// - **Emits** the events that it does not discard, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - An event that is discarded is done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let texts = Flow::from_iter(["a", "", "b"]).remove(|text| text.is_empty());
    /// assert_eq!(texts.collect().await?, ["a", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove(self, mut discard: impl FnMut(&T) -> bool + Send + 'static) -> Self {
        Self(self.0.apply(NodeKind::Element, "remove", |events, _| {
            kept(events, move |value| !discard(value))
        }))
    }
}

fn kept<T: Send + 'static>(
    events: BoxStream<'static, Event<T>>,
    mut keep: impl FnMut(&T) -> bool + Send + 'static,
) -> impl Stream<Item = Event<T>> + Send + 'static {
    events.filter_map(move |event| {
        if keep(&event.value) {
            return ready(Some(event));
        }
        event.receipt.done();
        ready(None)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Flow, Outcome};

    proptest! {
        #[test]
        fn agrees_with_iterators_and_what_is_dropped_is_done(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 == 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let kept = block_on(flow.filter(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }

        #[test]
        fn what_filter_keeps_remove_discards(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().copied().filter(|value| value % 3 != 0).collect();
            let (flow, outcomes) = Tracked::flow(values.clone());
            let rest = block_on(flow.remove(|value| value % 3 == 0).collect()).unwrap();
            prop_assert_eq!(rest, expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }

    #[test]
    fn the_graph_tells_remove_from_filter() {
        let flow = Flow::from_iter([1]).remove(|_| true).filter(|_| true);
        let names: Vec<_> = flow.graph().nodes().iter().map(|node| &**node.name()).collect();
        assert_eq!(names, ["from_iter", "remove", "filter"]);
    }
}

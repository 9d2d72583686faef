//! `map`: one value in, one value out.

use futures::stream::StreamExt as _;

use crate::{Flow, Meta, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Replaces each value by the result of `f`. For a function that can fail, see
    /// [`try_map`](Flow::try_map).
    ///
    /// - **Emits** one event for each event, with the same key and receipt.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter(["a", "b"]).map(str::to_uppercase).collect().await?, ["A", "B"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<U: Send + 'static>(self, mut f: impl FnMut(T) -> U + Send + 'static) -> Flow<U> {
        Flow(self.0.apply(NodeKind::Element, "map", |events, _| {
            events.map(move |event| event.map(&mut f))
        }))
    }

    /// Replaces each value by the result of `f`, as [`map`](Flow::map) does, with a function that
    /// also sees the metadata of the value's input, such as its key and its origin.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// let placed = Flow::from_iter(["a"]).map_with_meta(|text, meta| (text, meta.key.is_some()));
    /// assert_eq!(placed.collect().await?, [("a", false)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_with_meta<U: Send + 'static>(
        self,
        mut f: impl FnMut(T, &Meta) -> U + Send + 'static,
    ) -> Flow<U> {
        Flow(self.0.apply(NodeKind::Element, "map_with_meta", |events, _| {
            events.map(move |event| {
                let (value, rest) = event.take();
                let result = f(value, &rest.meta);
                rest.with(result)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Flow;
    use crate::testing::block_on;

    proptest! {
        #[test]
        fn results_agree_with_iterators(values: Vec<u8>) {
            let expected: Vec<_> = values.iter().map(|&value| u16::from(value) + 1).collect();
            let mapped = block_on(Flow::from_iter(values).map(|value| u16::from(value) + 1).collect());
            prop_assert_eq!(mapped.unwrap(), expected);
        }
    }
}

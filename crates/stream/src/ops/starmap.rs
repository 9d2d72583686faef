//! `starmap`: calls a function with the members of each tuple as arguments.

use futures::stream::StreamExt as _;

use crate::{Flow, NodeKind};

// One method for each length instead of a trait, because only this lets the compiler infer the
// types of a closure's arguments.

impl<A: Send + 'static, B: Send + 'static> Flow<(A, B)> {
    /// Replaces each pair by the result of `f`, which gets the members of the pair as two
    /// arguments; with [`map`](Flow::map), it would get the pair as one. Flows of triples and of
    /// tuples of four have this method too.
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
    /// let lines = Flow::from_iter([("a", 1), ("b", 2)]).starmap(|name, count| format!("{name}={count}"));
    /// assert_eq!(lines.collect().await?, ["a=1", "b=2"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn starmap<U: Send + 'static>(
        self,
        mut f: impl FnMut(A, B) -> U + Send + 'static,
    ) -> Flow<U> {
        spread(self, move |(a, b)| f(a, b))
    }
}

impl<A: Send + 'static, B: Send + 'static, C: Send + 'static> Flow<(A, B, C)> {
    /// Replaces each triple by the result of `f`, which gets its members as three arguments.
    pub fn starmap<U: Send + 'static>(
        self,
        mut f: impl FnMut(A, B, C) -> U + Send + 'static,
    ) -> Flow<U> {
        spread(self, move |(a, b, c)| f(a, b, c))
    }
}

impl<A, B, C, D> Flow<(A, B, C, D)>
where
    A: Send + 'static,
    B: Send + 'static,
    C: Send + 'static,
    D: Send + 'static,
{
    /// Replaces each tuple of four by the result of `f`, which gets its members as four arguments.
    pub fn starmap<U: Send + 'static>(
        self,
        mut f: impl FnMut(A, B, C, D) -> U + Send + 'static,
    ) -> Flow<U> {
        spread(self, move |(a, b, c, d)| f(a, b, c, d))
    }
}

fn spread<T: Send + 'static, U: Send + 'static>(
    flow: Flow<T>,
    mut f: impl FnMut(T) -> U + Send + 'static,
) -> Flow<U> {
    Flow(flow.0.apply(NodeKind::Element, "starmap", |events, _| {
        events.map(move |event| event.map(&mut f))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on};
    use crate::{Flow, Outcome};

    proptest! {
        #[test]
        fn results_agree_with_iterators_for_tuples_of_every_length(values: Vec<(u8, u16, u32, u64)>) {
            let count = values.len();
            let (pairs, outcomes) = Tracked::flow(values.clone());
            let pairs = pairs.map(|(a, b, _, _)| (a, b)).starmap(|a, b| [a.into(), b]);
            let expected: Vec<_> = values.iter().map(|&(a, b, _, _)| [a.into(), b]).collect();
            prop_assert_eq!(block_on(pairs.collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; count]);

            let triples = Flow::from_iter(values.clone()).map(|(a, b, c, _)| (a, b, c));
            let triples = triples.starmap(|a, b, c| [a.into(), b.into(), c]);
            let expected: Vec<_> = values.iter().map(|&(a, b, c, _)| [a.into(), b.into(), c]).collect();
            prop_assert_eq!(block_on(triples.collect()).unwrap(), expected);

            let fours = Flow::from_iter(values.clone()).starmap(|a, b, c, d| [a.into(), b.into(), c.into(), d]);
            let expected: Vec<_> = values.iter().map(|&(a, b, c, d)| [a.into(), b.into(), c.into(), d]).collect();
            prop_assert_eq!(block_on(fours.collect()).unwrap(), expected);
        }
    }
}

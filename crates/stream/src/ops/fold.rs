//! `fold` and `lengths`: each batch becomes one value.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::{Batches, Event, Failure, Flow, NodeKind};

impl<T: Send + 'static> Batches<T> {
    /// Makes one value of each batch, from `initial` and its members in order. To keep the members,
    /// see [`into_lists`](Batches::into_lists); for a state that is kept from event to event,
    /// [`accumulate`](Flow::accumulate).
    ///
    /// - **Emits** one event for each batch, with the metadata of its first member and the receipts
    ///   of all. An empty batch emits `initial` itself.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** of a step, every member of that batch fails, with this stage's name; the
    ///   next batch starts from `initial` again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// let sums = Flow::from_iter([1, 2, 3]).partition(two, None).fold(0, |sum, value| Ok(sum + value));
    /// assert_eq!(sums.collect().await?, [3, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold<S: Clone + Send + 'static>(
        self,
        initial: S,
        mut f: impl FnMut(S, T) -> Result<S, Failure> + Send + 'static,
    ) -> Flow<S> {
        Flow(self.0.apply(NodeKind::Batch, "fold", |batches, stage| {
            batches.filter_map(move |members| {
                stage.join(&members);
                let (values, rest) = Event::join(members).take();
                ready(match values.into_iter().try_fold(initial.clone(), &mut f) {
                    Ok(state) => Some(rest.with(state)),
                    Err(failure) => {
                        stage.fail(rest.receipt, failure);
                        None
                    }
                })
            })
        }))
    }

    /// Replaces each batch by the number of its members.
    ///
    /// - **Emits** one event for each batch, with the metadata of its first member and the receipts
    ///   of all; 0 for an empty one.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// assert_eq!(Flow::from_iter(["a", "b", "c"]).partition(two, None).lengths().collect().await?, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lengths(self) -> Flow<usize> {
        Flow(self.0.apply(NodeKind::Batch, "lengths", |batches, stage| {
            batches.map(move |members| {
                stage.join(&members);
                Event::join(members).map(|values| values.len())
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::stream::StreamExt as _;
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Event, Failure, Flow, Meta, Origin, Outcome};

    fn add(sum: u8, value: u8) -> Result<u8, Failure> {
        sum.checked_add(value).ok_or_else(|| Failure::new("overflow", value))
    }

    proptest! {
        #[test]
        fn results_agree_with_chunks_and_a_failure_fails_its_whole_batch(values: Vec<u8>, n in 1_usize..6) {
            let mut sums = Vec::new();
            let mut codes = Vec::new();
            for chunk in values.chunks(n) {
                let sum = chunk.iter().try_fold(0_u8, |sum, value| sum.checked_add(*value));
                sums.extend(sum);
                codes.extend(vec![if sum.is_some() { "done" } else { "overflow" }; chunk.len()]);
            }
            let (flow, outcomes) = Tracked::flow(values.clone());
            prop_assert_eq!(block_on(flow.partition(size(n), None).fold(0, add).collect()).unwrap(), sums);
            prop_assert_eq!(outcomes.codes(), codes);

            let (flow, outcomes) = Tracked::flow(values.clone());
            let lengths = block_on(flow.partition(size(n), None).lengths().collect()).unwrap();
            prop_assert_eq!(lengths, values.chunks(n).map(<[u8]>::len).collect::<Vec<_>>());
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }

    #[test]
    fn a_failure_names_its_stage() {
        let (flow, outcomes) = Tracked::flow([255, 1]);
        block_on(flow.partition(size(2), None).named("sum").fold(0, add).collect()).unwrap();
        let failed = Outcome::Failed(Failure::new("overflow", 1).at("sum"));
        assert_eq!(outcomes.all(), [failed.clone(), failed]);
    }

    #[test]
    fn members_are_open_until_their_value_is_delivered() {
        let (flow, outcomes) = Tracked::flow([1, 2, 3]);
        let codes = outcomes.clone();
        let lengths = flow.partition(size(2), None).lengths().map(move |_| codes.codes());
        let seen = block_on(lengths.collect()).unwrap();
        assert_eq!(seen, [vec!["open", "open"], vec!["done", "done", "open"]]);
    }

    #[test]
    fn the_value_has_the_metadata_of_the_first_member() {
        let events = (7..10).map(|position| {
            let origin = Origin { position, ..Origin::default() };
            let meta = Arc::new(Meta { origin, ..Meta::default() });
            Ok::<_, std::io::Error>(Event { meta, ..Event::detached(1) })
        });
        let flow = Flow::from_try_events("numbered", futures::stream::iter(events));
        let sums = flow.partition(size(2), None).fold(0, add).0.stream;
        let sums = sums.map(|event| (event.meta.origin.position, event.value)).collect::<Vec<_>>();
        assert_eq!(block_on(sums), [(7, 2), (9, 1)]);
    }
}

//! `flatten`: makes single events of batches and collections. `into_lists`: makes one event of each
//! batch.

use futures::stream::{self, StreamExt as _};

use crate::stage::Stage;
use crate::{Batches, Event, Flow, NodeKind};

impl<T: Send + 'static> Batches<T> {
    /// Turns batches back into their members, each with its own key and receipt.
    ///
    /// - **Emits** every member, in order.
    /// - **Backpressures** when downstream does; holds at most one batch.
    /// - **Completes** when upstream completes.
    pub fn flatten(self) -> Flow<T> {
        Flow(
            self.0.apply(NodeKind::Batch, "flatten", |batches, _| {
                batches.map(stream::iter).flatten()
            }),
        )
    }

    /// Makes one event of each batch: the list of its values. To process a batch and keep its
    /// members apart, see [`map_batch`](Batches::map_batch).
    ///
    /// - **Emits** one event for each batch, with the metadata of its first member and the receipts
    ///   of all.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** of the list, every member's receipt fails.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// let lists = Flow::from_iter(["a", "b", "c"]).partition(two, None).into_lists();
    /// assert_eq!(lists.collect().await?, [vec!["a", "b"], vec!["c"]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_lists(self) -> Flow<Vec<T>> {
        Flow(self.0.apply(NodeKind::Batch, "into_lists", |batches, stage| {
            batches.map(move |members| {
                stage.join(&members);
                Event::join(members)
            })
        }))
    }
}

impl<T, C> Flow<C>
where
    T: Send + 'static,
    C: IntoIterator<Item = T> + Send + 'static,
    C::IntoIter: Send + 'static,
{
    /// Replaces each value, which is a collection, by its members: one event for each.
    ///
    /// - **Emits** every member, in order, under its input's key. An empty collection emits
    ///   nothing, and is done.
    /// - **Backpressures** when downstream does; holds at most one collection.
    /// - **Completes** when upstream completes.
    /// - **On failure** of one member, the input fails once all its members are resolved.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::Flow;
    ///
    /// assert_eq!(Flow::from_iter([vec![1, 2], vec![], vec![3]]).flatten().collect().await?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flatten(self) -> Flow<T> {
        Flow(self.0.apply(NodeKind::Element, "flatten", |events, stage| {
            events.map(move |event| parts(event, stage.clone())).flatten()
        }))
    }
}

/// Returns the members of a collection as a stream, which holds a share of the receipt until it is
/// read to its end.
fn parts<C: IntoIterator>(
    event: Event<C>,
    stage: Stage,
) -> impl futures::Stream<Item = Event<C::Item>> {
    let (values, rest) = event.take();
    let mut values = values.into_iter();
    let mut rest = Some(rest);
    stream::iter(std::iter::from_fn(move || {
        if let Some(value) = values.next() {
            stage.made(1);
            return rest.as_ref().map(|rest| rest.derive(value));
        }
        if let Some(rest) = rest.take() {
            stage.spend(rest.receipt);
        }
        None
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Outcome};

    proptest! {
        #[test]
        fn an_input_is_done_when_all_its_members_are_done(values: Vec<Vec<u8>>) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            prop_assert_eq!(block_on(flow.flatten().collect()).unwrap(), values.concat());
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }

    #[test]
    fn one_failed_member_fails_its_input() {
        let (flow, outcomes) = Tracked::flow([vec![1, 2], vec![3]]);
        let odd = |value| if value % 2 == 1 { Ok(value) } else { Err(Failure::new("even", value)) };
        assert_eq!(block_on(flow.flatten().try_map(odd).collect()).unwrap(), [1, 3]);
        assert_eq!(outcomes.codes(), ["even", "done"]);
    }

    #[test]
    fn a_failed_list_fails_every_member() {
        let (flow, outcomes) = Tracked::flow([1, 2, 3]);
        let refuse = |list: Vec<i32>| Err::<(), _>(Failure::new("refused", list.len()));
        block_on(flow.partition(size(2), None).into_lists().try_map(refuse).collect()).unwrap();
        assert_eq!(outcomes.codes(), ["refused"; 3]);
    }
}

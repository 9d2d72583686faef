//! `pluck`: replaces each value by one of its fields.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::{Failure, Flow, NodeKind, codes};

/// The behaviour of [`pluck`](Flow::pluck) for a value that lacks the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing<U> {
    /// The event fails, with `missing_field`.
    Fail,
    /// The event goes on with this value.
    Instead(U),
}

impl<T: Send + 'static> Flow<T> {
    /// Replaces each value by a part of it that may be missing. For a part that is always there,
    /// see [`map`](Flow::map); to leave out the values that lack it, [`filter`](Flow::filter)
    /// first.
    ///
    /// - **Emits** one event for each value that has the part, with the same key and receipt; with
    ///   [`Missing::Instead`] for the others too.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure**: with [`Missing::Fail`] an event without the part fails with
    ///   `missing_field` and this stage's name, so [name](Flow::named) the stage after the part.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::collections::HashMap;
    ///
    /// use forebay_stream::{Flow, Missing};
    ///
    /// let people = || Flow::from_iter([HashMap::from([("name", "Ada")]), HashMap::from([("age", "36")])]);
    /// let name = |person: &HashMap<_, _>| person.get("name").copied();
    /// assert_eq!(people().pluck(name, Missing::Fail).collect().await?, ["Ada"]);
    /// assert_eq!(people().pluck(name, Missing::Instead("?")).collect().await?, ["Ada", "?"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pluck<U: Clone + Send + 'static>(
        self,
        mut get: impl FnMut(&T) -> Option<U> + Send + 'static,
        missing: Missing<U>,
    ) -> Flow<U> {
        Flow(self.0.apply(NodeKind::Element, "pluck", |events, stage| {
            events.filter_map(move |event| {
                let (value, rest) = event.take();
                ready(match (get(&value), &missing) {
                    (Some(part), _) => Some(rest.with(part)),
                    (None, Missing::Instead(other)) => Some(rest.with(other.clone())),
                    (None, Missing::Fail) => {
                        let failure =
                            Failure::new(codes::MISSING_FIELD, "the value has no such field");
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
    use proptest::prelude::*;

    use super::Missing;
    use crate::testing::{Tracked, block_on};
    use crate::{Failure, Outcome};

    #[test]
    fn a_missing_field_fails_its_event_alone_and_names_its_stage() {
        let (flow, outcomes) = Tracked::flow([Some(1), None, Some(3)]);
        let parts = flow.named("user.id").pluck(|value| *value, Missing::Fail).collect();
        assert_eq!(block_on(parts).unwrap(), [1, 3]);
        let missing = Failure::new("missing_field", "the value has no such field").at("user.id");
        assert_eq!(outcomes.all(), [Outcome::Done, Outcome::Failed(missing), Outcome::Done]);
    }

    proptest! {
        #[test]
        fn results_agree_with_iterators(values: Vec<Option<u8>>, instead: Option<u8>) {
            let missing = instead.map_or(Missing::Fail, Missing::Instead);
            let expected: Vec<_> = values.iter().filter_map(|value| value.or(instead)).collect();
            let code = |value: &Option<u8>| if value.or(instead).is_some() { "done" } else { "missing_field" };
            let codes: Vec<_> = values.iter().map(code).collect();
            let (flow, outcomes) = Tracked::flow(values);
            prop_assert_eq!(block_on(flow.pluck(|value| *value, missing).collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.codes(), codes);
        }
    }
}

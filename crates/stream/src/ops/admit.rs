//! `admit`: lets events pass by their metadata.

use std::future::ready;

use futures::stream::StreamExt as _;

use crate::stage::Stage;
use crate::{Batches, Event, Failure, Flow, Meta, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets an event pass if `check` accepts its metadata, such as a key, a header or a time. To
    /// judge by the value, see [`try_filter`](Flow::try_filter).
    ///
    /// - **Emits** the events that pass, unchanged.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** that event's receipt fails, with this stage's name; other events are not
    ///   affected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Failure, Flow, Meta};
    ///
    /// let keyed = |meta: &Meta| match meta.key {
    ///     Some(_) => Ok(()),
    ///     None => Err(Failure::new("no_key", "send a key")),
    /// };
    /// assert!(Flow::from_iter([1, 2]).admit(keyed).collect().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn admit(
        self,
        mut check: impl FnMut(&Meta) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        Self(self.0.apply(NodeKind::Element, "admit", |events, stage| {
            events.filter_map(move |event| ready(admitted(event, &mut check, &stage)))
        }))
    }
}

impl<T: Send + 'static> Batches<T> {
    /// Lets a member of a batch pass if `check` accepts its metadata. `check` is called when
    /// downstream takes the batch, so it can reject members that have become too old.
    ///
    /// - **Emits** the batches with the members that pass, in order. A batch of which no member
    ///   passes is not emitted.
    /// - **Backpressures** when downstream does; holds nothing.
    /// - **Completes** when upstream completes.
    /// - **On failure** that member's receipt fails, with this stage's name; other members are not
    ///   affected.
    pub fn admit(
        self,
        mut check: impl FnMut(&Meta) -> Result<(), Failure> + Send + 'static,
    ) -> Self {
        Self(self.0.apply(NodeKind::Batch, "admit", |batches, stage| {
            batches.filter_map(move |members| {
                let was_empty = members.is_empty();
                let members = members.into_iter();
                let rest: Vec<_> =
                    members.filter_map(|member| admitted(member, &mut check, &stage)).collect();
                ready((was_empty || !rest.is_empty()).then_some(rest))
            })
        }))
    }
}

fn admitted<T>(
    event: Event<T>,
    check: &mut impl FnMut(&Meta) -> Result<(), Failure>,
    stage: &Stage,
) -> Option<Event<T>> {
    match check(&event.meta) {
        Ok(()) => Some(event),
        Err(failure) => {
            stage.fail(event.receipt, failure);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Batch, Failure, Flow, Meta, Outcome};

    /// Rejects every `n`th event that is checked.
    fn reject_every(n: usize) -> impl FnMut(&Meta) -> Result<(), Failure> + Send + 'static {
        let mut place = 0;
        move |_| {
            place += 1;
            if place % n == 0 { Err(Failure::new("nth", place)) } else { Ok(()) }
        }
    }

    proptest! {
        #[test]
        fn rejected_events_fail_and_the_others_pass_in_order(count in 0_usize..60, n in 1_usize..5, batch in 1_usize..9) {
            let is_rejected = |place: usize| (place + 1).is_multiple_of(n);
            let expected: Vec<_> = (0..count).filter(|place| !is_rejected(*place)).collect();
            let codes: Vec<_> = (0..count).map(|place| if is_rejected(place) { "nth" } else { "done" }).collect();

            let (flow, outcomes) = Tracked::flow(0..count);
            prop_assert_eq!(&block_on(flow.admit(reject_every(n)).collect()).unwrap(), &expected);
            prop_assert_eq!(&outcomes.codes(), &codes);

            let (flow, outcomes) = Tracked::flow(0..count);
            let batches = flow.partition(size(batch), None).admit(reject_every(n));
            prop_assert_eq!(&block_on(batches.flatten().collect()).unwrap(), &expected);
            prop_assert_eq!(&outcomes.codes(), &codes);
        }
    }

    #[test]
    fn a_batch_of_which_no_member_passes_is_not_emitted() {
        let (flow, outcomes) = Tracked::flow([1, 2]);
        let batches = flow.partition(size(1), None).named("door").admit(reject_every(1));
        let called = batches.map_batch(|_: Batch<i32>| async move {
            Err::<Vec<Result<i32, Failure>>, _>(Failure::new("called", ""))
        });
        assert!(block_on(called.collect()).unwrap().is_empty());
        let failed = |place| Outcome::Failed(Failure::new("nth", place).at("door"));
        assert_eq!(outcomes.all(), [failed(1), failed(2)]);
    }

    #[test]
    fn the_check_sees_the_metadata() {
        let keyless = |meta: &Meta| match &meta.key {
            None => Ok(()),
            Some(_) => Err(Failure::new("key", "")),
        };
        let flow = Flow::from_iter([1]).admit(keyless);
        assert_eq!(block_on(flow.collect()).unwrap(), [1]);
    }
}

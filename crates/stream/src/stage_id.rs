//! `StageId`: identifies the stage that an event is in, small enough to be stored in an atomic.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A stage, as one more than the index of its name in `NAMES`; 0 stands for no stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StageId(u32);

/// The name of every stage, each once. Names are never removed, because there are only as many as
/// the process's pipelines have stages.
static NAMES: Mutex<Vec<Arc<str>>> = Mutex::new(Vec::new());

impl StageId {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn named(name: &Arc<str>) -> Self {
        let mut names = NAMES.lock();
        let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(Arc::clone(name));
            names.len() - 1
        });
        // Stages beyond the first `u32::MAX` names get no id.
        u32::try_from(index + 1).map_or(Self::NONE, Self)
    }

    pub(crate) fn name(self) -> Option<Arc<str>> {
        let index = usize::try_from(self.0).ok()?.checked_sub(1)?;
        NAMES.lock().get(index).cloned()
    }
}

/// A stage that one thread changes and others read. All accesses are `Relaxed`: the stage is only
/// reported to people, so a reader may see it a moment too early or too late.
#[derive(Debug)]
pub(crate) struct StageCell(AtomicU32);

impl StageCell {
    pub(crate) const fn new(stage: StageId) -> Self {
        Self(AtomicU32::new(stage.0))
    }

    pub(crate) fn set(&self, stage: StageId) {
        self.0.store(stage.0, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> StageId {
        StageId(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::convert::Infallible;
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use futures::stream;

    use crate::testing::{block_on, size};
    use crate::{Batch, Event, Flow, Pipeline, Receipt, Release, Retry, Watch};

    /// Two inputs, and the stages they were in at each call of a function from `look`.
    #[derive(Clone)]
    struct Inputs {
        watches: [Watch; 2],
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Inputs {
        fn flow() -> (Flow<usize>, Self) {
            let receipts = [(); 2].map(|()| Receipt::new(drop));
            let watches = receipts.each_ref().map(Receipt::watch);
            let events = (0..).zip(receipts).map(|(value, receipt)| {
                Ok::<_, Infallible>(Event { receipt, ..Event::detached(()) }.with(value))
            });
            let flow = Flow::from_try_events("numbers", stream::iter(events.collect::<Vec<_>>()));
            (flow, Self { watches, seen: Arc::default() })
        }

        /// Returns a function that takes an input's number, records the stage that this input is
        /// in, and returns the number.
        fn look(&self) -> impl Fn(usize) -> usize + Send + Sync + Clone + 'static {
            let inputs = self.clone();
            move |value| {
                let stage =
                    inputs.watches[value].stage().map_or("-".into(), |stage| stage.to_string());
                inputs.seen.lock().push(stage);
                value
            }
        }

        fn after(self, pipeline: Pipeline) -> Vec<String> {
            block_on(pipeline.run()).unwrap();
            assert!(self.watches.iter().all(|watch| watch.stage().is_none()), "all are settled");
            std::mem::take(&mut *self.seen.lock())
        }
    }

    #[test]
    fn an_input_is_in_the_stage_that_works_on_it() {
        let (flow, inputs) = Inputs::flow();
        let (first, second, call, last) =
            (inputs.look(), inputs.look(), inputs.look(), inputs.look());
        let batched = flow
            .named("parse")
            .map(first)
            .map(second)
            .partition(size(2), None)
            .named("model")
            .map_batch(move |batch: Batch<usize>| {
                let call = call.clone();
                async move { Ok(batch.iter().map(|value| Ok(call(*value))).collect()) }
            });
        let seen = inputs.after(batched.sink_fn(move |value| _ = last(value)));
        let expected = ["parse", "map", "parse", "map", "model", "model", "sink_fn", "sink_fn"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_stage_of_an_input_is_tracked_through_wrapped_and_joined_receipts() {
        let (flow, inputs) = Inputs::flow();
        let inside = inputs.look();
        let outside = inputs.look();
        let caught = inputs.look();
        let (flow, failures) = flow.catch(size(9), Release::AtOnce);
        let retry = Retry {
            attempts: NonZeroU32::MIN,
            backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
        };
        let flow = flow.retry(retry, size(9)).named("inside").map(inside);
        let flow = flow.named("outside").map(outside);
        let lists = flow.partition(size(2), None).into_lists().named("lists");
        let listed = lists.map(move |list| _ = list.into_iter().map(&caught).collect::<Vec<_>>());
        let all = listed.union(failures.map(|_| ()));
        let seen = inputs.after(all.sink_fn(|()| {}));
        assert_eq!(seen, ["inside", "outside", "inside", "outside", "lists", "lists"]);
    }

    #[test]
    fn an_input_is_in_the_branch_that_it_took() {
        let (flow, inputs) = Inputs::flow();
        let even = inputs.look();
        let odd = inputs.look();
        let (evens, odds) = flow.split(|value| value % 2 == 0, size(9));
        let joined = evens.named("even").map(even).union(odds.named("odd").map(odd));
        let mut seen = inputs.after(joined.sink_fn(|_| {}));
        seen.sort_unstable();
        assert_eq!(seen, ["even", "odd"]);
    }
}

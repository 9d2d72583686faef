//! `partition_unique`: batches of a given size in which no key comes twice.

use std::hash::Hash;
use std::num::NonZeroUsize;

use futures::stream::{self, StreamExt as _};

use crate::dispatches::{Dispatches, Reason};
use crate::failure::infallible;
use crate::gather::{Distinct, Gather as _};
use crate::{Batches, Failure, Flow, NodeKind};

/// The event of each key that a window keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The first one, in its place.
    First,
    /// The last one, which moves to the window's end.
    Last,
}

impl<T: Send + 'static> Flow<T> {
    /// Gathers events until there are `size` events of different keys. For windows by time, see
    /// [`timed_window_unique`](Flow::timed_window_unique).
    ///
    /// - **Emits** a batch when it has `size` events. There is no timeout: a batch waits until
    ///   `size` different keys have come.
    /// - **Backpressures** when downstream does; holds at most `size` events.
    /// - **Completes** when upstream completes, after the events it holds.
    /// - An event that is left out because of another event of its key is done: it was discarded on
    ///   purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, Keep, at_most};
    ///
    /// let three = at_most(3);
    /// let values = Flow::from_iter([1, 2, 1, 3, 1, 3, 3, 2]);
    /// let batches = values.partition_unique(three, |value| *value, Keep::Last).into_lists();
    /// assert_eq!(batches.collect().await?, [vec![2, 1, 3], vec![1, 3, 2]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn partition_unique<K, F>(self, size: NonZeroUsize, key: F, keep: Keep) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> K + Send + 'static,
    {
        self.try_partition_unique(size, infallible(key), keep)
    }

    /// Gathers as [`partition_unique`](Flow::partition_unique) does, with a key function that can
    /// fail.
    ///
    /// - **On failure** of `key` that event's receipt fails, with this stage's name; other events
    ///   are not affected.
    pub fn try_partition_unique<K, F>(self, size: NonZeroUsize, key: F, keep: Keep) -> Batches<T>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> Result<K, Failure> + Send + 'static,
    {
        Batches(self.0.apply(NodeKind::Window, "partition_unique", |events, stage| {
            let dispatches = Dispatches::new(&stage, &[Reason::Size, Reason::Drain]);
            let window = Distinct::new(key, keep, stage);
            let state = (events.fuse(), window, dispatches);
            stream::unfold(state, move |(mut events, mut window, mut dispatches)| async move {
                let mut reason = Reason::Drain;
                while let Some(event) = events.next().await {
                    dispatches.came();
                    window.put(event);
                    if window.size() == size.get() {
                        reason = Reason::Size;
                        break;
                    }
                }
                let batch = window.take();
                if batch.is_empty() {
                    return None;
                }
                dispatches.count(reason, batch.len());
                Some((batch, (events, window, dispatches)))
            })
            .fuse()
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Keep;
    use crate::testing::{Tracked, block_on, size};
    use crate::{Failure, Flow, Outcome};

    #[test]
    fn keep_first_leaves_an_event_in_its_place_and_keep_last_moves_it_to_the_end() {
        let values = [1, 2, 1, 3, 1, 3, 3, 2];
        let batches = |keep| {
            let flow = Flow::from_iter(values).partition_unique(size(3), |value| *value, keep);
            block_on(flow.into_lists().collect()).unwrap()
        };
        assert_eq!(batches(Keep::First), [[1, 2, 3], [1, 3, 2]]);
        assert_eq!(batches(Keep::Last), [[2, 1, 3], [1, 3, 2]]);
    }

    proptest! {
        #[test]
        fn batches_agree_with_lists_and_superseded_events_are_done(
            keys in prop::collection::vec(0_u8..6, 0..60), n in 1_usize..5, last: bool,
        ) {
            let keep = if last { Keep::Last } else { Keep::First };
            let values: Vec<_> = keys.into_iter().enumerate().collect();
            let mut expected = vec![Vec::new()];
            for &(number, key) in &values {
                let batch: &mut Vec<(usize, u8)> = expected.last_mut().unwrap();
                match batch.iter().position(|(_, known)| *known == key) {
                    Some(_) if keep == Keep::First => continue,
                    Some(at) => _ = batch.remove(at),
                    None => {}
                }
                batch.push((number, key));
                if batch.len() == n {
                    expected.push(Vec::new());
                }
            }
            expected.retain(|batch| !batch.is_empty());

            let (flow, outcomes) = Tracked::flow(values.clone());
            let batches = flow.partition_unique(size(n), |(_, key)| *key, keep).into_lists();
            prop_assert_eq!(block_on(batches.collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }

    #[test]
    fn an_event_without_a_key_fails_alone() {
        let (flow, outcomes) = Tracked::flow(0..3);
        let key = |number: &i32| match number {
            1 => Err(Failure::new("one", number)),
            _ => Ok(*number),
        };
        let lists = flow.try_partition_unique(size(2), key, Keep::First).into_lists();
        assert_eq!(block_on(lists.collect()).unwrap(), [[0, 2]]);
        assert_eq!(outcomes.codes(), ["done", "one", "done"]);
    }

    #[test]
    fn a_batch_is_not_done_before_it_is_delivered() {
        let (flow, outcomes) = Tracked::flow([1, 1, 2, 3]);
        let codes = outcomes.clone();
        let batches = flow.partition_unique(size(2), |value| *value, Keep::First).into_lists();
        let seen = batches.map(move |list| (list, codes.codes()));
        let seen = block_on(seen.collect()).unwrap();
        assert_eq!(seen[0].1, ["open", "done", "open"]);
        assert_eq!(seen[1].1, ["done", "done", "done", "open"]);
    }
}

//! `unique`: leaves out events whose key came recently.

use std::future::ready;
use std::hash::Hash;
use std::num::NonZeroUsize;

use futures::stream::StreamExt as _;

use crate::failure::infallible;
use crate::recent::Recent;
use crate::{Failure, Flow, NodeKind};

impl<T: Send + 'static> Flow<T> {
    /// Lets a value pass unless its key is among the `capacity` different keys seen most recently.
    /// A discarded repeat also counts as seen.
    ///
    /// - **Emits** the first event of each key, unchanged. If there are more than `capacity` keys,
    ///   the key that was seen longest ago is forgotten, so its next event passes again.
    /// - **Backpressures** when downstream does; holds `capacity` keys and no events.
    /// - **Completes** when upstream completes.
    /// - **Settles** the receipt of a repeat as done, not as abandoned, because it is discarded on
    ///   purpose.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// let unique = Flow::from_iter([1, 2, 1, 3, 2]).unique(|value| *value, two);
    /// assert_eq!(unique.collect().await?, [1, 2, 3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn unique<K, F>(self, key: F, capacity: NonZeroUsize) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> K + Send + 'static,
    {
        self.try_unique(infallible(key), capacity)
    }

    /// Lets values pass as [`unique`](Flow::unique) does, with a key function that can fail.
    ///
    /// - **On failure** of `key` that event's receipt fails, with this stage's name; other events
    ///   are not affected.
    pub fn try_unique<K, F>(self, mut key: F, capacity: NonZeroUsize) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: FnMut(&T) -> Result<K, Failure> + Send + 'static,
    {
        Self(self.0.apply(NodeKind::Element, "unique", |events, stage| {
            let mut keys = Recent::new();
            events.filter_map(move |event| {
                let key = match key(&event.value) {
                    Ok(key) => key,
                    Err(failure) => {
                        stage.fail(event.receipt, failure);
                        return ready(None);
                    }
                };
                if keys.put(key, ()).is_some() {
                    stage.discard(event.receipt);
                    return ready(None);
                }
                if keys.len() > capacity.get() {
                    keys.pop_oldest();
                }
                ready(Some(event))
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::{Tracked, block_on, size};
    use crate::{Flow, Outcome};

    #[test]
    fn a_repeat_refreshes_its_key() {
        let values = [1, 2, 1, 2, 1, 2, 3, 2, 1, 2, 3, 2];
        let unique = Flow::from_iter(values).unique(|value| *value, size(2));
        assert_eq!(block_on(unique.collect()).unwrap(), [1, 2, 3, 1, 3]);
    }

    proptest! {
        #[test]
        fn results_agree_with_a_simple_implementation(
            values in prop::collection::vec(0_u8..40, 0..80), capacity in 1_usize..8,
        ) {
            let key = |value: &u8| value / 4;
            let mut last = Vec::new();
            let mut expected = Vec::new();
            for value in &values {
                match last.iter().position(|known| *known == key(value)) {
                    Some(at) => _ = last.remove(at),
                    None => expected.push(*value),
                }
                last.push(key(value));
                if last.len() > capacity {
                    last.remove(0);
                }
            }
            let (flow, outcomes) = Tracked::flow(values.clone());
            prop_assert_eq!(block_on(flow.unique(key, size(capacity)).collect()).unwrap(), expected);
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

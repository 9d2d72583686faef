//! `tap`: makes the last values of a flow visible from outside.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::stream::StreamExt as _;

use crate::{Flow, NodeKind};

/// A view of the last values that passed a [`Flow::tap`]. Clones show the same values, which stay
/// when the flow has ended.
#[derive(Clone, Debug)]
pub struct Tap<T>(Arc<Mutex<VecDeque<T>>>);

impl<T> Tap<T> {
    /// Returns copies of the last values, the oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.lock().iter().cloned().collect()
    }

    fn put(&self, value: T, size: usize) {
        let mut recent = self.lock();
        let oldest = if recent.len() == size { recent.pop_front() } else { None };
        recent.push_back(value);
        drop(recent);
        // Dropped outside of the lock, because the `drop` of a value may do anything.
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock()
    }
}

impl<T: Clone + Send + 'static> Flow<T> {
    /// Keeps copies of the last `size` values, which a debug endpoint can show. To look at every
    /// value, use [`inspect`](Flow::inspect).
    ///
    /// - **Emits** every event, unchanged.
    /// - **Backpressures** when downstream does; holds copies of `size` values, and no event.
    /// - **Completes** when upstream completes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, at_most};
    ///
    /// let two = at_most(2);
    /// let (flow, tap) = Flow::from_iter([1, 2, 3]).tap(two);
    /// assert_eq!(flow.collect().await?, [1, 2, 3]);
    /// assert_eq!(tap.recent(), [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tap(self, size: NonZeroUsize) -> (Self, Tap<T>) {
        let tap = Tap(Arc::default());
        let seen = tap.clone();
        let flow = self.0.apply(NodeKind::Element, "tap", |events, _| {
            events.inspect(move |event| seen.put(event.value.clone(), size.get()))
        });
        (Self(flow), tap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::Outcome;
    use crate::testing::{Tracked, block_on, size};

    proptest! {
        #[test]
        fn the_tap_shows_the_last_values_at_every_step_and_changes_nothing(values: Vec<u8>, n in 1_usize..8) {
            let (flow, outcomes) = Tracked::flow(values.clone());
            let (flow, tap) = flow.tap(size(n));
            let other = tap.clone();
            let seen = block_on(flow.map(move |value| (value, tap.recent())).collect()).unwrap();
            let last = |end: usize| values[end.saturating_sub(n)..end].to_vec();
            let expected: Vec<_> =
                values.iter().enumerate().map(|(at, value)| (*value, last(at + 1))).collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(other.recent(), last(values.len()));
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; values.len()]);
        }
    }
}

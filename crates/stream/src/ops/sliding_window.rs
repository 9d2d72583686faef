//! `sliding_window`: overlapping windows of the most recent events.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};

use crate::dispatches::{Dispatches, Reason};
use crate::stage::Stage;
use crate::{Batches, Event, Flow, NodeKind};

/// The behaviour of [`sliding_window`](Flow::sliding_window) for windows that are not full, at
/// either end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// Emits them: windows grow at the start, and the last one has the remaining events.
    Emit,
    /// Drops them: an event that no full window contains is done.
    Drop,
}

impl<T: Clone + Send + 'static> Flow<T> {
    /// Emits the last `size` events each time `step` more have come. For windows that do not
    /// overlap, see [`partition`](Flow::partition).
    ///
    /// - **Emits** when `size` events have come, and then each time `step` more have come. With
    ///   [`Partial::Emit`] also earlier, at the same intervals, with the events that have come by
    ///   then; and at the end, if no window contained the last events.
    /// - **Backpressures** when downstream does; holds at most `size` events.
    /// - **Completes** when upstream completes.
    /// - An event is done after the last window that contains it, or when it is passed over because
    ///   `step` exceeds `size`. Up to `size - 1` inputs therefore wait for events that have not
    ///   come; [`detach`](Flow::detach) settles them before the window.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use forebay_stream::{Flow, Partial, at_most};
    ///
    /// let (one, three) = (at_most(1), at_most(3));
    /// let windows = |partial| Flow::from_iter(0..4).sliding_window(three, one, partial).into_lists();
    /// assert_eq!(windows(Partial::Drop).collect().await?, [[0, 1, 2], [1, 2, 3]]);
    /// assert_eq!(windows(Partial::Emit).collect().await?, [vec![0], vec![0, 1], vec![0, 1, 2], vec![1, 2, 3]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sliding_window(
        self,
        size: NonZeroUsize,
        step: NonZeroUsize,
        partial: Partial,
    ) -> Batches<T> {
        let size = size.get() as u64;
        let step = step.get() as u64;
        let end = match partial {
            Partial::Drop => size,
            // The end of the first partial window. It is chosen so that adding `step` again and
            // again leads to `size`, the end of the first full window.
            Partial::Emit => (size - 1) % step + 1,
        };
        Batches(self.0.apply(NodeKind::Window, "sliding_window", |events, stage| SlidingWindow {
            upstream: events.fuse(),
            dispatches: Dispatches::new(&stage, &[Reason::Size, Reason::Drain]),
            stage,
            size,
            step,
            partial,
            held: VecDeque::new(),
            come: 0,
            end,
            shown: 0,
        }))
    }
}

/// The state machine behind [`Flow::sliding_window`]. Events are numbered from 0.
struct SlidingWindow<T> {
    upstream: Fuse<BoxStream<'static, Event<T>>>,
    stage: Stage,
    dispatches: Dispatches,
    size: u64,
    step: u64,
    partial: Partial,
    // Invariant: the events from the start of the next window to the newest one, at most `size`.
    held: VecDeque<Event<T>>,
    // The number of events that have come.
    come: u64,
    // The next window consists of the `size` events before this number.
    end: u64,
    // All events before this number have been in a window, or were passed over.
    shown: u64,
}

impl<T> Unpin for SlidingWindow<T> {}

impl<T: Clone> SlidingWindow<T> {
    /// Takes the window that is due. Members of later windows are copied, with a share of their
    /// receipts; the others are moved out.
    fn take(&mut self) -> Vec<Event<T>> {
        let start = self.end.saturating_sub(self.size);
        self.shown = self.come;
        self.end = self.end.saturating_add(self.step);
        let next_start = self.end.saturating_sub(self.size);
        let leaving = usize::try_from(next_start - start).unwrap_or(usize::MAX);
        let mut window: Vec<_> = self.held.drain(..leaving.min(self.held.len())).collect();
        self.stage.made(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
        window.extend(self.held.iter().map(|event| event.derive(event.value.clone())));
        self.dispatches.count_size(Reason::Size, window.len());
        window
    }

    /// Returns the last window at the end of the input if it has to be emitted; otherwise the
    /// remaining events are done.
    fn finish(&mut self) -> Option<Vec<Event<T>>> {
        if self.partial == Partial::Emit && self.shown < self.come && !self.held.is_empty() {
            self.shown = self.come;
            self.dispatches.count_size(Reason::Drain, self.held.len());
            return Some(self.held.drain(..).collect());
        }
        let never_shown = usize::try_from(self.come - self.shown).unwrap_or(usize::MAX);
        let were_shown = self.held.len().saturating_sub(never_shown);
        self.held.drain(..were_shown).for_each(|event| self.stage.spend(event.receipt));
        self.held.drain(..).for_each(|event| self.stage.discard(event.receipt));
        None
    }
}

impl<T: Clone> Stream for SlidingWindow<T> {
    type Item = Vec<Event<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while let Some(event) = ready!(this.upstream.poll_next_unpin(cx)) {
            let number = this.come;
            this.come += 1;
            if number < this.end.saturating_sub(this.size) {
                this.shown = this.come;
                this.stage.discard(event.receipt);
                continue;
            }
            this.held.push_back(event);
            if this.come == this.end {
                return Poll::Ready(Some(this.take()));
            }
        }
        Poll::Ready(this.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Partial;
    use crate::testing::{Tracked, block_on, size};
    use crate::{Flow, Outcome};

    fn windows(count: usize, n: usize, step: usize, partial: Partial) -> Vec<Vec<usize>> {
        let flow = Flow::from_iter(0..count).sliding_window(size(n), size(step), partial);
        block_on(flow.into_lists().collect()).unwrap()
    }

    #[test]
    fn partial_windows_grow_at_the_start_and_end_with_the_remaining_events() {
        assert_eq!(windows(4, 3, 2, Partial::Drop), [[0, 1, 2]]);
        assert_eq!(windows(4, 3, 2, Partial::Emit), [vec![0], vec![0, 1, 2], vec![2, 3]]);
        assert_eq!(windows(2, 5, 1, Partial::Emit), [vec![0], vec![0, 1]]);
        assert!(windows(2, 5, 1, Partial::Drop).is_empty());
    }

    proptest! {
        #[test]
        fn full_windows_agree_with_slices_and_every_input_is_done(
            count in 0_usize..40, n in 1_usize..8, step in 1_usize..10, emit: bool,
        ) {
            let partial = if emit { Partial::Emit } else { Partial::Drop };
            let (flow, outcomes) = Tracked::flow(0..count);
            let flow = flow.sliding_window(size(n), size(step), partial).into_lists();
            let seen = block_on(flow.collect()).unwrap();

            let values: Vec<_> = (0..count).collect();
            let full: Vec<_> = values.windows(n).step_by(step).map(<[usize]>::to_vec).collect();
            let seen_full: Vec<_> = seen.iter().filter(|window| window.len() == n).cloned().collect();
            prop_assert_eq!(seen_full, full);
            if !emit {
                prop_assert!(seen.iter().all(|window| window.len() == n));
            } else if step <= n {
                let shown: std::collections::BTreeSet<_> = seen.concat().into_iter().collect();
                prop_assert_eq!(shown.len(), count, "no event is left out");
            }
            prop_assert_eq!(outcomes.all(), vec![Outcome::Done; count]);
        }
    }

    #[test]
    fn an_event_is_done_when_the_last_window_with_it_is_delivered() {
        let (flow, outcomes) = Tracked::flow(0..4);
        let codes = outcomes.clone();
        let flow = flow.sliding_window(size(2), size(1), Partial::Emit).into_lists();
        let seen = block_on(flow.map(move |_| codes.codes()).collect()).unwrap();
        assert_eq!(seen[1], ["open", "open"]);
        assert_eq!(seen[2], ["done", "open", "open"]);
        assert_eq!(seen[3], ["done", "done", "open", "open"]);
    }

    #[test]
    fn a_window_that_fails_fails_all_its_members() {
        let (flow, outcomes) = Tracked::flow(0..4);
        let flow = flow.sliding_window(size(2), size(1), Partial::Drop).into_lists();
        let refuse = |list: Vec<i32>| match list[0] {
            1 => Err(crate::Failure::new("one", 1)),
            _ => Ok(list),
        };
        block_on(flow.try_map(refuse).collect()).unwrap();
        assert_eq!(outcomes.codes(), ["done", "one", "one", "done"]);
    }
}

//! `Merge`: the events of two branches of one fork, in the order in which they entered the branches.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, Fuse, Stream, StreamExt as _};
use tokio::time::{Sleep, sleep};

use crate::Event;
use crate::fork::{JoinOrder, Place};
use crate::stage::Stage;

/// How long a join waits for a branch that holds events back, unless the user sets a time.
pub(crate) const WAIT: Duration = Duration::from_millis(100);

/// An event of one of two flows, or `None` when that flow ends.
pub(crate) enum Side<T, U> {
    First(Option<Event<T>>),
    Second(Option<Event<U>>),
}

/// Merges two flows. Each next event is the one that entered its branch first.
///
/// While one flow has an event and the other may still deliver an earlier one, the merge waits, but
/// at most for `wait`. After that it takes events as they come until the slower flow has caught up.
pub(crate) struct Merge<T, U> {
    first: Input<T>,
    second: Input<U>,
    order: JoinOrder,
    wait: Duration,
    /// Runs while an event waits for the other flow.
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether the merge has stopped to wait for a flow, until that flow has caught up.
    late: [bool; 2],
    stage: Stage,
}

struct Input<T> {
    events: Fuse<BoxStream<'static, Event<T>>>,
    head: Option<(Place, Event<T>)>,
    ended: bool,
}

impl<T> Input<T> {
    fn new(events: BoxStream<'static, Event<T>>) -> Self {
        Self { events: events.fuse(), head: None, ended: false }
    }

    /// Polls for the next event unless there is one. Returns whether the flow has ended just now.
    fn fill(&mut self, order: &JoinOrder, cx: &mut Context<'_>) -> bool {
        if self.head.is_some() || self.ended {
            return false;
        }
        match self.events.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => {
                self.head = Some((order.place(&event.receipt.marks), event));
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => {}
        }
        self.ended
    }

    fn place(&self) -> Option<Place> {
        self.head.as_ref().map(|(place, _)| *place)
    }

    fn take(&mut self, order: &JoinOrder) -> Option<Event<T>> {
        let (place, mut event) = self.head.take()?;
        order.leave(&mut event.receipt.marks, place);
        Some(event)
    }
}

impl<T, U> Unpin for Merge<T, U> {}

impl<T, U> Merge<T, U> {
    pub(crate) fn new(
        first: BoxStream<'static, Event<T>>,
        second: BoxStream<'static, Event<U>>,
        order: JoinOrder,
        wait: Duration,
        stage: Stage,
    ) -> Self {
        let (first, second) = (Input::new(first), Input::new(second));
        Self { first, second, order, wait, patience: None, late: [false; 2], stage }
    }

    /// Polls for the next event of the second flow, whatever the first one has.
    pub(crate) fn poll_second(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<U>>> {
        self.second.fill(&self.order, cx);
        match self.second.take(&self.order) {
            Some(event) => Poll::Ready(Some(event)),
            None if self.second.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Waits until flow `side` can deliver no event from before `place`, or for `wait`.
    fn poll_turn(&mut self, side: usize, place: Place, cx: &mut Context<'_>) -> Poll<()> {
        if !self.order.is_behind(side, place, cx) {
            self.late[side] = false;
        } else if !self.late[side] {
            let wait = self.wait;
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(patience.as_mut().poll(cx));
            self.late[side] = true;
            metrics::counter!("forebay_joins_out_of_order_total", "step" => self.stage.name().to_string())
                .increment(1);
            tracing::debug!(
                stage = &**self.stage.name(),
                "a branch is behind the other; the join goes on without its order"
            );
        }
        self.patience = None;
        Poll::Ready(())
    }
}

impl<T, U> Stream for Merge<T, U> {
    type Item = Side<T, U>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.first.fill(&this.order, cx) {
            return Poll::Ready(Some(Side::First(None)));
        }
        if this.second.fill(&this.order, cx) {
            return Poll::Ready(Some(Side::Second(None)));
        }
        let first_is_next = match (this.first.place(), this.second.place()) {
            (Some(first), Some(second)) => first <= second,
            (Some(first), None) => {
                if !this.second.ended {
                    ready!(this.poll_turn(1, first, cx));
                }
                true
            }
            (None, Some(second)) => {
                if !this.first.ended {
                    ready!(this.poll_turn(0, second, cx));
                }
                false
            }
            (None, None) if this.first.ended && this.second.ended => return Poll::Ready(None),
            (None, None) => return Poll::Pending,
        };
        this.patience = None;
        Poll::Ready(Some(if first_is_next {
            Side::First(this.first.take(&this.order))
        } else {
            Side::Second(this.second.take(&this.order))
        }))
    }
}

#[cfg(test)]
mod tests;

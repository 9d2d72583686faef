//! `Gate`: counts the events inside a bounded part of a flow, and tells the task that lets events
//! in when there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// The number of events inside a part of a flow that has room for `capacity` of them. Any thread
/// can count events in and out. One task at a time waits for room, or until nothing is inside.
///
/// No wake-up is lost:
///
/// - The waiting task registers its waker and then loads the count. A thread that lowers the count
///   does so before it calls `wake`. [`AtomicWaker`] makes one of the two come first. If `register`
///   comes first, `wake` finds the waker. If `wake` comes first, `register` acquires what `wake`
///   released, so the load returns the lowered count or a later one.
/// - Only a change that takes the count below `capacity`, or to 0, calls `wake`. All changes are
///   atomic read-modify-writes of one variable, so they have one order, and each sees the count that
///   it changes. If the task loads a count that is too high, a change to a lower count comes after
///   the loaded one in that order. Its `wake` cannot come before the task's `register`, or the load
///   would have returned the lowered count. So that `wake` finds the waker.
///
/// The count itself orders other memory as well: `leave` releases, and the loads acquire. A task
/// that sees room, or nothing inside, sees all that was written before the events left.
pub(crate) struct Gate {
    inside: Arc<AtomicUsize>,
    capacity: usize,
    waiter: AtomicWaker,
}

impl Gate {
    pub(crate) fn new(capacity: usize) -> Self {
        Self::counting(Arc::default(), capacity)
    }

    /// Creates a gate that keeps its count in `inside`, for others to read.
    pub(crate) fn counting(inside: Arc<AtomicUsize>, capacity: usize) -> Self {
        Self { inside, capacity, waiter: AtomicWaker::new() }
    }

    /// Counts `events` in, whether there is room for them or not.
    pub(crate) fn enter(&self, events: usize) {
        self.inside.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts `events` out. To be called when no lock is held, because it can wake a task.
    pub(crate) fn leave(&self, events: usize) {
        // Pairs with the load in `is_below`.
        let before = self.inside.fetch_sub(events, Ordering::Release);
        let after = before - events;
        let has_room_again = before >= self.capacity && after < self.capacity;
        let is_empty_again = before > 0 && after == 0;
        if has_room_again || is_empty_again {
            self.waiter.wake();
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.is_below(self.capacity)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.is_below(1)
    }

    /// Ready while fewer than `capacity` events are inside.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_below(self.capacity, cx, || ())
    }

    /// Ready while no event is inside.
    pub(crate) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_below(1, cx, || ())
    }

    /// `between` is called between the first look at the count and `register`, which is where a test
    /// lets events leave.
    fn poll_below(&self, limit: usize, cx: &Context<'_>, between: impl FnOnce()) -> Poll<()> {
        if self.is_below(limit) {
            return Poll::Ready(());
        }
        between();
        self.waiter.register(cx.waker());
        // The count may have fallen between the first load and `register`, with a `wake` that found
        // no waker.
        if self.is_below(limit) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_below(&self, limit: usize) -> bool {
        // Pairs with the `fetch_sub` in `leave`.
        self.inside.load(Ordering::Acquire) < limit
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;
    use std::thread;
    use std::time::Duration;

    use futures::task::{ArcWake, waker};
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::Gate;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    proptest! {
        #[test]
        fn a_task_that_waits_is_woken_when_the_count_falls_below_its_limit_and_not_before(
            capacity in 1_usize..5, steps in prop::collection::vec((0_u8..4, 1_usize..4), 0..60),
        ) {
            let gate = Gate::new(capacity);
            let woken = Arc::new(Wakes::default());
            let waker = waker(Arc::clone(&woken));
            let cx = Context::from_waker(&waker);
            let mut inside = 0;
            let mut waits_below = None;
            for (step, events) in steps {
                let before = woken.0.load(Ordering::Relaxed);
                match step {
                    0 => {
                        gate.enter(events);
                        inside += events;
                    }
                    1 => {
                        let events = events.min(inside);
                        gate.leave(events);
                        let is_woken = woken.0.load(Ordering::Relaxed) > before;
                        let was_inside = inside;
                        inside -= events;
                        let is_due = |limit| was_inside >= limit && inside < limit;
                        prop_assert!(is_woken || !waits_below.is_some_and(is_due));
                        prop_assert!(!is_woken || is_due(capacity) || is_due(1), "woken too early");
                        if is_woken {
                            waits_below = None;
                        }
                    }
                    2 => {
                        let ready = gate.poll_room(&cx).is_ready();
                        prop_assert_eq!((ready, gate.has_room()), (inside < capacity, inside < capacity));
                        waits_below = if ready { waits_below } else { Some(capacity) };
                    }
                    _ => {
                        let ready = gate.poll_empty(&cx).is_ready();
                        prop_assert_eq!((ready, gate.is_empty()), (inside == 0, inside == 0));
                        waits_below = if ready { waits_below } else { Some(1) };
                    }
                }
            }
        }
    }

    #[test]
    fn an_event_that_leaves_before_the_task_has_registered_its_waker_is_noticed() {
        for (capacity, limit) in [(1, 1), (3, 3), (3, 1)] {
            let gate = Gate::new(capacity);
            gate.enter(limit);
            let waker = waker(Arc::new(Wakes::default()));
            let polled = gate.poll_below(limit, &Context::from_waker(&waker), || gate.leave(1));
            assert!(polled.is_ready());
        }
    }

    type Poll = fn(&Gate, &Context<'_>) -> std::task::Poll<()>;

    /// Runs rounds of a race: `leavers` events are inside and leave on a thread each, while this
    /// thread begins to wait with `poll`. Each thread pauses first, for a time that differs from
    /// round to round, so that they meet at every point of each other's code. Returns the round in
    /// which this thread was not woken.
    fn lost_wake_up(capacity: usize, leavers: usize, poll: Poll) -> Option<usize> {
        const ROUNDS: usize = 20_000;
        // Where other programs use the processors, a round can take milliseconds.
        let end = Instant::now() + Duration::from_secs(1);
        let gate = Gate::new(capacity);
        let round = AtomicUsize::new(0);
        let left = AtomicUsize::new(0);
        let woken = Arc::new(Wakes::default());
        let waker = waker(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        thread::scope(|scope| {
            for leaver in 1..=leavers {
                let (gate, round, left) = (&gate, &round, &left);
                scope.spawn(move || {
                    for this_round in 1..=ROUNDS {
                        wait_until(|| round.load(Ordering::Relaxed) >= this_round);
                        if round.load(Ordering::Relaxed) == usize::MAX {
                            return;
                        }
                        pause(this_round % (7 * leaver));
                        gate.leave(1);
                        left.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let lost = (1..=ROUNDS).take_while(|_| Instant::now() < end).find(|&this_round| {
                gate.enter(leavers);
                let before = woken.0.load(Ordering::Relaxed);
                round.store(this_round, Ordering::Relaxed);
                pause(this_round % 401);
                let waits = poll(&gate, &cx).is_pending();
                wait_until(|| left.load(Ordering::Relaxed) == leavers * this_round);
                waits && woken.0.load(Ordering::Relaxed) == before
            });
            round.store(usize::MAX, Ordering::Relaxed);
            lost
        })
    }

    fn pause(nanoseconds: usize) {
        for passed in 0..nanoseconds {
            black_box(passed);
        }
    }

    fn wait_until(condition: impl Fn() -> bool) {
        // Looks often before it yields, because the other threads usually run at the same time.
        while !(0..1_000).any(|_| condition()) {
            thread::yield_now();
        }
    }

    #[test]
    fn no_wake_up_is_lost_when_events_leave_on_other_threads() {
        assert_eq!(lost_wake_up(1, 1, Gate::poll_room), None);
        assert_eq!(lost_wake_up(1, 2, Gate::poll_room), None);
        assert_eq!(lost_wake_up(9, 1, Gate::poll_empty), None);
    }
}

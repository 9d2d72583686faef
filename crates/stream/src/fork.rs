//! `Fork`: the order of the events that a `branch` or `split` sends into its branches, and the
//! progress of each branch. `Mark`: the place of one event in that order, carried by its receipt.
//!
//! A join of several branches of one fork takes events in the order in which they entered the
//! branches (`merge.rs`). For that it must know whether a branch may still deliver an event from
//! before a given place. Every event that is derived from a branched event shares its mark, so the
//! branch is past a place when the marks of all earlier places are gone: the events have reached the
//! join, were filtered out, or failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// One `branch` or `split` of a flow.
#[derive(Debug, Default)]
pub(crate) struct Fork {
    /// Set while the flow is built, if a join takes several branches. Otherwise events get no marks.
    joined: AtomicBool,
    /// The number of events that have entered the fork.
    entered: AtomicU64,
    progress: Mutex<Progress>,
}

/// The place of an event in the order of a fork: the number of the event that entered the fork, and
/// the number of the branch that it took.
pub(crate) type Place = (u64, usize);

/// A branch of the fork, or the output of a join of its branches.
pub(crate) type Lane = usize;

#[derive(Debug, Default)]
struct Progress {
    /// For each lane, its open marks, counted by their places.
    open: Vec<BTreeMap<Place, usize>>,
    /// The joins, which wait for marks to go.
    joins: Vec<Arc<AtomicWaker>>,
}

impl Fork {
    pub(crate) fn new(branches: usize) -> Arc<Self> {
        let fork = Self::default();
        fork.progress.lock().open.resize_with(branches, BTreeMap::new);
        Arc::new(fork)
    }

    /// Adds a join of several lanes. Returns the lane of its output, and the waker that is woken
    /// when the earliest mark of a lane goes.
    fn join(&self) -> (Lane, Arc<AtomicWaker>) {
        // Relaxed is enough: the flow is handed to the task that runs it after it is built.
        self.joined.store(true, Ordering::Relaxed);
        let mut progress = self.progress.lock();
        let waker = Arc::<AtomicWaker>::default();
        progress.joins.push(Arc::clone(&waker));
        progress.open.push(BTreeMap::new());
        (progress.open.len() - 1, waker)
    }

    /// Returns the number of the next event that enters the fork; `None` if no join needs it.
    pub(crate) fn enter(&self) -> Option<u64> {
        let joined = self.joined.load(Ordering::Relaxed);
        joined.then(|| self.entered.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the earliest place of an open mark in one of the lanes.
    fn earliest(&self, lanes: &[Lane]) -> Option<Place> {
        let progress = self.progress.lock();
        let first = |lane: &Lane| progress.open[*lane].keys().next().copied();
        lanes.iter().filter_map(first).min()
    }
}

/// The place of an event in the order of a fork, as long as the event is in the lane.
#[derive(Debug)]
struct Mark {
    fork: Arc<Fork>,
    lane: Lane,
    place: Place,
}

impl Mark {
    fn new(fork: &Arc<Fork>, lane: Lane, place: Place) -> Arc<Self> {
        *fork.progress.lock().open[lane].entry(place).or_default() += 1;
        Arc::new(Self { fork: Arc::clone(fork), lane, place })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut progress = self.fork.progress.lock();
        let open = &mut progress.open[self.lane];
        let was_first = open.keys().next() == Some(&self.place);
        if let Some(count) = open.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.place);
            }
        }
        if was_first {
            progress.joins.iter().for_each(|join| join.wake());
        }
    }
}

/// The marks of an event. An event without marks allocates nothing.
#[derive(Clone, Debug, Default)]
#[expect(clippy::box_collection, reason = "every event has this field, and few have marks")]
pub(crate) struct Marks(Option<Box<Vec<Arc<Mark>>>>);

impl Marks {
    pub(crate) const NONE: Self = Self(None);

    /// Marks an event that takes a branch of a fork.
    pub(crate) fn add(&mut self, fork: &Arc<Fork>, lane: Lane, number: u64) {
        self.push(Mark::new(fork, lane, (number, lane)));
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn push(&mut self, mark: Arc<Mark>) {
        self.0.get_or_insert_with(Box::default).push(mark);
    }

    /// Adds the marks of another event, for an event that is made of both.
    pub(crate) fn unite(&mut self, other: Self) {
        match &mut self.0 {
            None => *self = other,
            Some(marks) => {
                for mark in other.0.into_iter().flat_map(|marks| *marks) {
                    if marks.iter().all(|known| !Arc::ptr_eq(known, &mark)) {
                        marks.push(mark);
                    }
                }
            }
        }
    }

    /// Returns the place of the event in a fork's order. An event that is made of several has the
    /// place of the newest.
    fn place(&self, fork: &Arc<Fork>) -> Option<Place> {
        let marks = self.0.iter().flat_map(|marks| marks.iter());
        marks.filter(|mark| Arc::ptr_eq(&mark.fork, fork)).map(|mark| mark.place).max()
    }

    /// Moves the event from its lanes of a fork to another lane.
    fn change_lane(&mut self, fork: &Arc<Fork>, lane: Lane, place: Place) {
        // The new mark comes first, so that the event is open in one of the lanes at any time.
        self.push(Mark::new(fork, lane, place));
        if let Some(marks) = &mut self.0 {
            marks.retain(|mark| !Arc::ptr_eq(&mark.fork, fork) || mark.lane == lane);
        }
    }
}

/// The lanes of a fork that a flow's events have come through.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    fork: Arc<Fork>,
    lanes: Vec<Lane>,
    /// Whether an operator on the way may hold events: one that waits, or works asynchronously.
    holds: bool,
}

/// The forks that all events of a flow have come through, the outermost first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forks(Vec<Passed>);

impl Forks {
    pub(crate) fn pass(&mut self, fork: &Arc<Fork>, lane: Lane) {
        self.0.push(Passed { fork: Arc::clone(fork), lanes: vec![lane], holds: false });
    }

    /// Records that the flow goes through an operator that may hold events.
    pub(crate) fn hold(&mut self) {
        self.0.iter_mut().for_each(|passed| passed.holds = true);
    }

    /// Returns whether an operator in one of the branches may hold events, if the flow and another
    /// one are branches of one fork.
    pub(crate) fn may_hold(&self, other: &Self) -> Option<bool> {
        let (left, right) = self.innermost(other)?;
        Some(left.holds || right.holds)
    }

    /// Joins the flow with another one. Returns the order of their events, which is that of the
    /// innermost fork that both have passed; `None` if there is none.
    pub(crate) fn join(&mut self, other: &Self) -> Option<JoinOrder> {
        let order = self.innermost(other).map(|(left, right)| {
            let (lane, waker) = left.fork.join();
            let lanes = [left.lanes.clone(), right.lanes.clone()];
            JoinOrder { fork: Arc::clone(&left.fork), lanes, lane, waker }
        });
        self.intersect(other);
        if let (Some(JoinOrder { lane, .. }), Some(innermost)) = (&order, self.0.last_mut()) {
            innermost.lanes.push(*lane);
        }
        order
    }

    /// Returns what both flows say of the innermost fork that they have passed.
    fn innermost<'a>(&'a self, other: &'a Self) -> Option<(&'a Passed, &'a Passed)> {
        self.0.iter().rev().find_map(|left| Some((left, other.passed(&left.fork)?)))
    }

    /// Keeps the forks that the other flow has passed too, with the lanes of both.
    pub(crate) fn intersect(&mut self, other: &Self) {
        self.0.retain_mut(|left| {
            let Some(right) = other.passed(&left.fork) else { return false };
            left.lanes.extend(&right.lanes);
            left.holds |= right.holds;
            true
        });
    }

    fn passed(&self, fork: &Arc<Fork>) -> Option<&Passed> {
        self.0.iter().find(|passed| Arc::ptr_eq(&passed.fork, fork))
    }
}

/// The order in which a join takes the events of two flows.
#[derive(Debug)]
pub(crate) struct JoinOrder {
    fork: Arc<Fork>,
    /// The lanes of each side.
    lanes: [Vec<Lane>; 2],
    /// The lane of the join's output.
    lane: Lane,
    waker: Arc<AtomicWaker>,
}

impl JoinOrder {
    /// Returns the place of an event. An event whose mark was lost comes first.
    pub(crate) fn place(&self, marks: &Marks) -> Place {
        marks.place(&self.fork).unwrap_or_default()
    }

    /// Moves an event that leaves the join to the lane of its output.
    pub(crate) fn leave(&self, marks: &mut Marks, place: Place) {
        marks.change_lane(&self.fork, self.lane, place);
    }

    /// Returns whether a side may still deliver an event from before a place. If so, the task is
    /// woken when that may have changed.
    pub(crate) fn is_behind(&self, side: usize, place: Place, cx: &std::task::Context<'_>) -> bool {
        let behind =
            || self.fork.earliest(&self.lanes[side]).is_some_and(|earliest| earliest < place);
        if !behind() {
            return false;
        }
        // A mark that goes between the first look and the registration wakes nobody, so the second
        // look comes after the registration.
        self.waker.register(cx.waker());
        behind()
    }
}

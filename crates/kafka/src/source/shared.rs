//! What the poll thread, the stream, the receipts and the handle of one source have in common.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::assignment::{Assignment, Remains};
use super::{Oldest, Stats};
use crate::Error;

pub(super) struct Shared {
    pub(super) topic: Arc<str>,
    max_in_flight: usize,
    assignments: Mutex<HashMap<i32, Arc<Assignment>>>,
    // Records open in all assignments together, and those of them that are held.
    in_flight: AtomicUsize,
    held: AtomicUsize,
    // While something waits for outcomes, each of them wakes the poll thread.
    draining: AtomicBool,
    poller: OnceLock<Thread>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    pub(super) failure_added: Notify,
    closing: Mutex<Option<Instant>>,
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(topic: &str, max_in_flight: NonZeroUsize) -> Self {
        Self {
            topic: topic.into(),
            max_in_flight: max_in_flight.get(),
            assignments: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            poller: OnceLock::new(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            failure_added: Notify::new(),
            closing: Mutex::new(None),
        }
    }

    // The poll thread, which sleeps by parking.

    pub(super) fn poll_here(&self) {
        self.poller.set(thread::current()).ok();
    }

    pub(super) fn wake(&self) {
        if let Some(poller) = self.poller.get() {
            poller.unpark();
        }
    }

    // What is in flight.

    /// Counts a record that has been read, and returns its assignment; `None` if its partition is not assigned.
    pub(super) fn open(&self, partition: i32, offset: i64) -> Option<(Arc<Assignment>, usize)> {
        let assignment = Arc::clone(lock(&self.assignments).get(&partition)?);
        let slot = assignment.open(offset);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Some((assignment, slot))
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) >= self.max_in_flight
    }

    /// Whether enough has been resolved to read again. Held records keep their places, so they do not count here.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) <= self.low_water()
    }

    fn low_water(&self) -> usize {
        let held = self.held.load(Ordering::Acquire).min(self.max_in_flight);
        match held + (self.max_in_flight - held) / 2 {
            // Not one place is free: every record is held.
            low if low >= self.max_in_flight => self.max_in_flight - 1,
            low => low,
        }
    }

    pub(super) fn resolved(&self) {
        let now = self.in_flight.fetch_sub(1, Ordering::AcqRel) - 1;
        if now == self.low_water() || self.draining.load(Ordering::Acquire) {
            self.wake();
        }
    }

    pub(super) fn held(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
        // The low-water mark has moved.
        self.wake();
    }

    // Assignments.

    pub(super) fn assign(&self, partition: i32) {
        lock(&self.assignments).insert(partition, Arc::new(Assignment::new(partition)));
    }

    /// Ends the assignments of these partitions, and returns what may be committed of each.
    pub(super) fn revoke(&self, partitions: &[i32]) -> Vec<(i32, Remains)> {
        let mut assignments = lock(&self.assignments);
        let ended = partitions.iter().filter_map(|partition| {
            let remains = assignments.remove(partition)?.fence();
            self.in_flight.fetch_sub(remains.open, Ordering::AcqRel);
            self.held.fetch_sub(remains.held, Ordering::AcqRel);
            Some((*partition, remains))
        });
        ended.collect()
    }

    pub(super) fn assigned(&self) -> Vec<i32> {
        lock(&self.assignments).keys().copied().collect()
    }

    pub(super) fn assignment(&self, partition: i32) -> Option<Arc<Assignment>> {
        lock(&self.assignments).get(&partition).cloned()
    }

    /// Hands out nothing more of these partitions, and waits on the poll thread until the outcome of everything that
    /// was handed out is known, or `deadline` has passed. Outcomes come from other threads.
    pub(super) fn drain(&self, partitions: &[i32], deadline: Instant) -> bool {
        let assignments: Vec<_> =
            partitions.iter().filter_map(|partition| self.assignment(*partition)).collect();
        for assignment in &assignments {
            assignment.drain();
        }
        self.draining.store(true, Ordering::SeqCst);
        let drained = loop {
            if assignments.iter().all(|assignment| assignment.taken() == 0) {
                break true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            thread::park_timeout(left);
        };
        self.draining.store(false, Ordering::SeqCst);
        drained
    }

    /// As [`drain`](Self::drain) for everything, without waiting: whether all outcomes are known.
    pub(super) fn try_drain(&self) -> bool {
        self.draining.store(true, Ordering::SeqCst);
        let assignments = lock(&self.assignments);
        assignments.values().for_each(|assignment| assignment.drain());
        assignments.values().all(|assignment| assignment.taken() == 0)
    }

    /// How many records were handed out and have come to no outcome.
    pub(super) fn taken(&self) -> usize {
        lock(&self.assignments).values().map(|assignment| assignment.taken()).sum()
    }

    // The end.

    /// Ends the source with an error; the first one counts.
    pub(super) fn fail(&self, error: Error) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            *lock(&self.failure) = Some(error);
            self.failure_added.notify_one();
        }
        self.wake();
    }

    pub(super) fn unanswered(&self, origin: Origin, failure: Failure) {
        self.fail(Error::Unanswered { origin, failure: Box::new(failure) });
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The error that ended the source, for the first who asks.
    pub(super) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Asks the poll thread to end, at once or when everything in flight is resolved before `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        *lock(&self.closing) = Some(deadline);
        self.wake();
    }

    pub(super) fn closing(&self) -> Option<Instant> {
        *lock(&self.closing)
    }

    pub(super) fn stats(&self) -> Stats {
        let oldest = lock(&self.assignments)
            .values()
            .filter_map(|assignment| Some((assignment.partition, assignment.oldest()?)))
            .min_by_key(|(_, (_, since))| *since)
            .map(|(partition, (offset, since))| Oldest {
                origin: self.origin(partition, offset),
                age: since.elapsed(),
            });
        Stats {
            in_flight: self.in_flight.load(Ordering::Acquire),
            held: self.held.load(Ordering::Acquire),
            oldest,
        }
    }

    pub(super) fn origin(&self, partition: i32, offset: i64) -> Origin {
        Origin {
            source: Arc::clone(&self.topic),
            partition: Some(partition),
            position: offset.unsigned_abs(),
        }
    }
}

/// The instant after `duration`, however long that is.
pub(super) fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    Instant::now() + duration.min(FAR)
}

/// The longest that the poll thread sleeps: everything that has to wake it does so, this is only how late it would be
/// if a wake-up were lost, and far below `max.poll.interval.ms`.
pub(super) const BACKSTOP: Duration = Duration::from_millis(100);

//! `Core`: what the threads, the stream, the receipts and the handle of one source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use tokio::time::Instant;

use super::assignment::{Assignment, Commits};
use super::committed::Confirmed;
use super::end::End;
use super::in_flight::InFlight;
use super::ledger::{Ledger, Moved};
use super::stats::{Oldest, Stats};
use super::wake::Wake;
use crate::config::{OnUnanswered, SourceConfig};
use crate::{Delivery, Error, Stuck};

pub(crate) struct Core {
    pub(super) topic: Arc<str>,
    pub(super) ledger: Ledger,
    pub(super) end: End,
    /// The offsets whose commits the brokers have confirmed.
    pub(super) confirmed: Arc<Confirmed>,
    /// Wakes the thread that polls librdkafka.
    pub(super) poller: Wake,
    /// Wakes the thread that writes transactions, if there is one.
    pub(super) writer: Wake,
    /// How long the oldest record in flight, or the transactions, may make no progress.
    pub(super) stuck_timeout: Option<Duration>,
    on_unanswered: OnUnanswered,
    // Set when a partition halts; reset when the poll thread pauses it.
    halted: AtomicBool,
}

impl Core {
    pub(super) fn new(config: &SourceConfig) -> Self {
        let limit = InFlight {
            records: config.max_in_flight.get(),
            bytes: config.max_in_flight_bytes.get(),
        };
        let commits = match config.delivery {
            Delivery::AtLeastOnce => Commits::Alone,
            Delivery::ExactlyOnce(_) => Commits::WithOutputs,
        };
        Self {
            topic: config.topic.as_str().into(),
            ledger: Ledger::new(limit, commits),
            end: End::default(),
            confirmed: Arc::default(),
            poller: Wake::default(),
            writer: Wake::default(),
            stuck_timeout: config.stuck_timeout,
            on_unanswered: config.on_unanswered,
            halted: AtomicBool::new(false),
        }
    }

    /// Wakes the threads that wait for what moved.
    pub(super) fn wake_for(&self, moved: Moved) {
        if moved.has_room || moved.drains {
            self.poller.wake();
        }
        if moved.answered {
            self.writer.wake();
        }
    }

    /// Ends the source with an error. Only the first error counts.
    pub(super) fn fail(&self, error: Error) {
        self.end.fail(error);
        self.poller.wake();
    }

    /// Ends the source because a record has made no progress for `timeout`.
    pub(super) fn stuck(&self, origin: Origin, state: String, timeout: Duration) {
        self.end.fail_stuck(Stuck { origin, state, timeout });
        self.poller.wake();
    }

    /// Asks the poll thread to end when all records that were handed out are settled, at `deadline`
    /// at the latest.
    pub(super) fn close(&self, deadline: Instant) {
        self.end.close(deadline);
        self.poller.wake();
    }

    /// Handles the failure of a record that nothing in the pipeline answered. Its offset is never
    /// committed.
    pub(super) fn unanswered(&self, assignment: &Assignment, origin: Origin, failure: Failure) {
        match self.on_unanswered {
            OnUnanswered::Stop => {
                self.fail(Error::Unanswered { origin, failure: Box::new(failure) });
            }
            OnUnanswered::HaltPartition => {
                if assignment.is_open() {
                    tracing::error!(%origin, %failure, "nothing in the pipeline answered this failure: the partition halts at this record");
                }
                assignment.close();
                // Pairs with the swap in `take_halted`: a poll thread that sees `true` also sees
                // the assignment closed.
                self.halted.store(true, Ordering::Release);
                self.poller.wake();
            }
        }
    }

    /// Whether a partition has halted since the last call.
    pub(super) fn take_halted(&self) -> bool {
        // Pairs with the store in `unanswered`.
        self.halted.swap(false, Ordering::AcqRel)
    }

    pub(super) fn stats(&self) -> Stats {
        let InFlight { records, bytes } = self.ledger.in_flight();
        let oldest = self.ledger.oldest().map(|(partition, head)| Oldest {
            origin: self.origin(partition, head.offset),
            age: head.since.elapsed(),
        });
        Stats {
            in_flight: records,
            in_flight_bytes: bytes,
            held: self.ledger.held(),
            handing_over: self.ledger.handing_over(),
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

impl Drop for Core {
    fn drop(&mut self) {
        // A source that was never started has no poll thread that ends the events.
        self.confirmed.end();
    }
}

/// Returns the instant `duration` from now, or a year from now if that is sooner, so that the
/// addition cannot overflow.
pub(super) fn after(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    Instant::now() + duration.min(FAR)
}

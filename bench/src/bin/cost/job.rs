//! The contenders, the job of a contender, and its stopwatch.

use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use crate::usage::{Usage, Watch};

/// A program that copies requests to the topic of replies, or a part of that program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The bare loop, at least once.
    Bare,
    /// The bare loop in transactions.
    BareTransactions,
    /// The bare consumer, which drops what it reads and commits it.
    BareConsumer,
    /// Forebay's pipeline, at least once.
    Forebay,
    /// Forebay's pipeline in transactions.
    ForebayTransactions,
    /// Forebay's source and sink without anything between them, at least once.
    ForebayEnds,
    /// Forebay's source and sink without anything between them, in transactions.
    ForebayEndsTransactions,
    /// Forebay's source alone, whose records are dropped and committed.
    ForebaySource,
}

impl Contender {
    const NAMES: [(Self, &str); 8] = [
        (Self::Bare, "bare"),
        (Self::BareTransactions, "bare-transactions"),
        (Self::BareConsumer, "bare-consumer"),
        (Self::Forebay, "forebay"),
        (Self::ForebayTransactions, "forebay-transactions"),
        (Self::ForebayEnds, "forebay-ends"),
        (Self::ForebayEndsTransactions, "forebay-ends-transactions"),
        (Self::ForebaySource, "forebay-source"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find_map(|(contender, known)| (known == name).then_some(contender))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find_map(|(contender, name)| (contender == self).then_some(name))
            .unwrap_or_default()
    }
}

/// The job of a contender.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) brokers: String,
    /// The topic to read. The consumer group has the name of the topic `replies`.
    pub(crate) requests: String,
    pub(crate) replies: String,
    /// Number of records after which the contender ends. It also ends when its standard input is
    /// closed.
    pub(crate) count: usize,
    /// Forebay's `max_in_flight`; `None` for its default.
    pub(crate) in_flight: Option<NonZeroUsize>,
}

/// Measures the time from the first record that is read until all replies are confirmed, all
/// offsets are committed, and the consumer has left its group.
pub(crate) struct Stopwatch {
    started: Option<(Instant, Watch)>,
}

impl Stopwatch {
    pub(crate) const fn new() -> Self {
        Self { started: None }
    }

    /// Notes that a record was read; the first one starts the stopwatch.
    pub(crate) fn read(&mut self) {
        if self.started.is_none() {
            self.started = Some((Instant::now(), Watch::start()));
        }
    }

    pub(crate) fn stop(self) -> (Duration, Usage) {
        let stopped = self.started.map(|(since, watch)| (since.elapsed(), watch.stop()));
        stopped.unwrap_or_default()
    }
}

/// Calls `stop` when the parent closes the standard input of this process, or ends.
pub(crate) fn on_end(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        stop();
    });
}

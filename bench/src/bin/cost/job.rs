//! A contender's job: which one it is, what it has to pass on, and from when to when it is timed.

use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use crate::usage::{Usage, Watch};

/// Who passes requests on as replies.
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
    /// The same in transactions.
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
        Self::NAMES.into_iter().find_map(|(one, of)| (of == name).then_some(one))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find_map(|(one, of)| (one == self).then_some(of))
            .unwrap_or_default()
    }
}

/// What a contender has to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) brokers: String,
    /// The topic to read; the group is called as `replies`.
    pub(crate) requests: String,
    pub(crate) replies: String,
    /// It ends after so many, or when its standard input does.
    pub(crate) count: usize,
    /// Forebay's `max_in_flight`; its default where there is none.
    pub(crate) in_flight: Option<NonZeroUsize>,
}

/// From the first record that was read until everything was confirmed and committed and the group was left.
pub(crate) struct Stopwatch {
    started: Option<(Instant, Watch)>,
}

impl Stopwatch {
    pub(crate) const fn new() -> Self {
        Self { started: None }
    }

    /// A record was read.
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

/// Calls `stop` when the parent has closed this process' standard input, or has gone.
pub(crate) fn on_end(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        stop();
    });
}

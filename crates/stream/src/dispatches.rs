//! `Dispatches`: the metrics of the batches that leave a window: reasons, sizes and waits.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

use crate::stage::Stage;

/// The reason why a batch left a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Downstream asked, and there is no time to wait for more.
    Idle,
    /// The batch had the number of members that it can have.
    Size,
    /// Another member would have cost too much.
    Cost,
    /// The oldest event had waited for as long as it may.
    Wait,
    /// A deadline would have been missed.
    Deadline,
    /// The window's interval was over.
    Interval,
    /// An event of another flow asked for the batch.
    Flush,
    /// Upstream had ended.
    Drain,
}

impl Reason {
    const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Size => "size",
            Self::Cost => "cost",
            Self::Wait => "wait",
            Self::Deadline => "deadline",
            Self::Interval => "interval",
            Self::Flush => "flush",
            Self::Drain => "drain",
        }
    }
}

/// The metrics of one window.
pub(crate) struct Dispatches {
    batches: Vec<(Reason, Counter)>,
    sizes: Histogram,
    waits: Histogram,
    // The time at which the first event of the next batch came; `None` without such an event.
    opened: Option<Instant>,
}

impl Dispatches {
    /// Creates the metrics of a window whose batches leave for one of `reasons`.
    pub(crate) fn new(stage: &Stage, reasons: &[Reason]) -> Self {
        let step = || ("step", stage.name().to_string());
        let batches = |&reason: &Reason| {
            let labels = [step(), ("reason", reason.label().to_owned())];
            (reason, counter!("forebay_batches_total", labels.as_slice()))
        };
        Self {
            batches: reasons.iter().map(batches).collect(),
            sizes: histogram!("forebay_batch_size", [step()].as_slice()),
            waits: histogram!("forebay_batch_wait_seconds", [step()].as_slice()),
            opened: None,
        }
    }

    /// Notes that an event came, for a window that has one batch at a time.
    pub(crate) fn came(&mut self) {
        self.opened.get_or_insert_with(Instant::now);
    }

    /// Counts the batch of a window that has one batch at a time.
    pub(crate) fn count(&mut self, reason: Reason, size: usize) {
        let opened = self.opened.take();
        self.count_after(reason, size, opened.map(|opened| opened.elapsed()).unwrap_or_default());
    }

    /// Counts a batch whose first event has waited for `waited`.
    pub(crate) fn count_after(&self, reason: Reason, size: usize, waited: Duration) {
        self.count_size(reason, size);
        self.waits.record(waited.as_secs_f64());
    }

    /// Counts a batch of a window that no event waits in.
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub(crate) fn count_size(&self, reason: Reason, size: usize) {
        let counter = self.batches.iter().find(|(known, _)| *known == reason);
        debug_assert!(counter.is_some(), "the window was created with its reasons");
        if let Some((_, counter)) = counter {
            counter.increment(1);
        }
        self.sizes.record(size as f64);
    }
}

//! The metrics of the batches that leave a window: reasons, sizes, padding and waits.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::choice::Limit;
use crate::batching::{BatchLoad, CostModel};

/// The reason why a batch left a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Downstream asked, and there is no `max_wait`.
    Idle,
    /// The batch had the maximum number of members.
    Size,
    /// Another member would have cost too much.
    Cost,
    /// The oldest event had waited for `max_wait`.
    Wait,
    /// A deadline would have been missed.
    Deadline,
    /// Upstream had ended.
    Drain,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Idle, Self::Size, Self::Cost, Self::Wait, Self::Deadline, Self::Drain];

    const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Size => "size",
            Self::Cost => "cost",
            Self::Wait => "wait",
            Self::Deadline => "deadline",
            Self::Drain => "drain",
        }
    }
}

impl From<Limit> for Reason {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Size => Self::Size,
            Limit::Cost => Self::Cost,
        }
    }
}

/// The metrics of one window.
pub(super) struct Dispatches {
    batches: [Counter; Reason::ALL.len()],
    sizes: Histogram,
    elements: Counter,
    padding: Counter,
    waits: Histogram,
    predicted: Histogram,
}

impl Dispatches {
    pub(super) fn new(stage: &Arc<str>) -> Self {
        let stage = || ("stage", stage.to_string());
        let batches = |reason: Reason| {
            counter!(
                "forebay_batches_total",
                [stage(), ("reason", reason.label().to_owned())].as_slice()
            )
        };
        Self {
            batches: Reason::ALL.map(batches),
            sizes: histogram!("forebay_batch_size", [stage()].as_slice()),
            elements: counter!("forebay_batch_elements_total", [stage()].as_slice()),
            padding: counter!("forebay_batch_padding_total", [stage()].as_slice()),
            waits: histogram!("forebay_batch_wait_seconds", [stage()].as_slice()),
            predicted: histogram!("forebay_batch_predicted_seconds", [stage()].as_slice()),
        }
    }

    /// Counts a batch that leaves, whose first member has waited for `waited`.
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub(super) fn count(
        &self,
        reason: Reason,
        load: BatchLoad,
        waited: Duration,
        costs: &CostModel,
    ) {
        self.batches[reason as usize].increment(1);
        self.sizes.record(load.size as f64);
        self.elements.increment(load.total);
        self.padding.increment(costs.shapes().elements(load).saturating_sub(load.total));
        self.waits.record(waited.as_secs_f64());
        self.predicted.record(costs.predict(load).as_secs_f64());
    }
}

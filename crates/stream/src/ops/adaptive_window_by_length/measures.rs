//! The metrics of a window by length, beyond those of every window: tokens, padding, predicted
//! time, and how long each event waited.

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

use crate::batching::{BatchLoad, CostModel};
use crate::stage::Stage;

pub(super) struct Measures {
    elements: Counter,
    padding: Counter,
    predicted: Histogram,
    queue: Histogram,
}

impl Measures {
    pub(super) fn new(stage: &Stage) -> Self {
        let step = || [("step", stage.name().to_string())];
        Self {
            elements: counter!("forebay_batch_elements_total", step().as_slice()),
            padding: counter!("forebay_batch_padding_total", step().as_slice()),
            predicted: histogram!("forebay_batch_predicted_seconds", step().as_slice()),
            queue: histogram!("forebay_request_queue_seconds", step().as_slice()),
        }
    }

    /// Counts a batch that leaves now, whose members came at these times.
    pub(super) fn count(&self, load: BatchLoad, costs: &CostModel, came: &[Instant]) {
        let now = Instant::now();
        for came in came {
            self.queue.record(now.saturating_duration_since(*came).as_secs_f64());
        }
        self.elements.increment(load.total);
        self.padding.increment(costs.shapes().elements(load).saturating_sub(load.total));
        self.predicted.record(costs.predict(load).as_secs_f64());
    }
}

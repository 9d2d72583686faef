//! The metrics of a window by length, beyond those of every window: tokens, padding and predicted
//! time.

use metrics::{Counter, Histogram, counter, histogram};

use crate::batching::{BatchLoad, CostModel};
use crate::stage::Stage;

pub(super) struct Padding {
    elements: Counter,
    padding: Counter,
    predicted: Histogram,
}

impl Padding {
    pub(super) fn new(stage: &Stage) -> Self {
        let step = || [("step", stage.name().to_string())];
        Self {
            elements: counter!("forebay_batch_elements_total", step().as_slice()),
            padding: counter!("forebay_batch_padding_total", step().as_slice()),
            predicted: histogram!("forebay_batch_predicted_seconds", step().as_slice()),
        }
    }

    /// Counts a batch that leaves.
    pub(super) fn count(&self, load: BatchLoad, costs: &CostModel) {
        self.elements.increment(load.total);
        self.padding.increment(costs.shapes().elements(load).saturating_sub(load.total));
        self.predicted.record(costs.predict(load).as_secs_f64());
    }
}

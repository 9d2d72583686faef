//! `Work`: how much a model has done, and how long its device took for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

/// How much a model has done since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Number of inputs that the model was given.
    pub inputs: u64,
    /// Number of batches.
    pub batches: u64,
    /// Time during which the device was busy with them.
    pub busy: Duration,
    /// Time that the last warm-up took, with the loading of the model.
    pub warm_up: Duration,
    /// How often the model was loaded again after a failure.
    pub rebuilds: u64,
    /// Whether the model takes batches; false while it is loaded again after a failure.
    pub is_ready: bool,
}

impl Work {
    /// Returns the mean device time of an input; `None` before the first one.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let inputs = u32::try_from(self.inputs).unwrap_or(u32::MAX);
        self.busy.checked_div(inputs)
    }

    /// Returns the work of several copies of a model together; their warm-ups ran at the same time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            inputs: self.inputs + other.inputs,
            batches: self.batches + other.batches,
            busy: self.busy + other.busy,
            warm_up: self.warm_up.max(other.warm_up),
            rebuilds: self.rebuilds + other.rebuilds,
            is_ready: self.is_ready || other.is_ready,
        }
    }
}

/// Counts the work of one model, for [`Work`] and for the metrics. All accesses are `Relaxed`,
/// because the numbers are only reported to people.
pub(crate) struct WorkLog {
    inputs: AtomicU64,
    batches: AtomicU64,
    busy_nanos: AtomicU64,
    warm_up_nanos: AtomicU64,
    rebuilds: AtomicU64,
    is_ready: AtomicBool,
    seconds: Histogram,
    inputs_total: Counter,
    rebuilds_total: Counter,
}

impl WorkLog {
    pub(crate) fn new(model: &str) -> Self {
        let model = || [("model", model.to_owned())];
        Self {
            inputs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            warm_up_nanos: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            is_ready: AtomicBool::new(false),
            seconds: histogram!("forebay_model_batch_seconds", model().as_slice()),
            inputs_total: counter!("forebay_model_inputs_total", model().as_slice()),
            rebuilds_total: counter!("forebay_model_rebuilds_total", model().as_slice()),
        }
    }

    /// Counts a batch of `inputs`, for which the device took `busy`.
    pub(crate) fn batch(&self, inputs: usize, busy: Duration) {
        self.inputs.fetch_add(inputs as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.busy_nanos.fetch_add(nanos(busy), Ordering::Relaxed);
        self.inputs_total.increment(inputs as u64);
        self.seconds.record(busy.as_secs_f64());
    }

    pub(crate) fn warmed_up(&self, took: Duration) {
        self.warm_up_nanos.store(nanos(took), Ordering::Relaxed);
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Notes that the model failed, and is not there until the next warm-up.
    pub(crate) fn lost(&self) {
        self.is_ready.store(false, Ordering::Relaxed);
    }

    pub(crate) fn rebuilt(&self) {
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
        self.rebuilds_total.increment(1);
    }

    pub(crate) fn get(&self) -> Work {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Work {
            inputs: read(&self.inputs),
            batches: read(&self.batches),
            busy: Duration::from_nanos(read(&self.busy_nanos)),
            warm_up: Duration::from_nanos(read(&self.warm_up_nanos)),
            rebuilds: read(&self.rebuilds),
            is_ready: self.is_ready.load(Ordering::Relaxed),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

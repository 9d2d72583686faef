//! `Point`: the measurements with one number of clients.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Measured;

/// The measurements with one number of clients: for the pipeline that batches requests, and for the
/// one that handles them one by one.
pub(super) struct Point {
    pub(super) clients: u32,
    pub(super) batched: Figures,
    pub(super) one_by_one: Figures,
}

/// The figures of one pipeline.
pub(super) struct Figures {
    /// Median time to answer a burst of one request per client.
    pub(super) burst: Duration,
    /// Mean number of requests per batch.
    pub(super) mean_batch: f64,
    pub(super) load: Measured,
}

impl Point {
    fn ratio(&self) -> f64 {
        self.batched.load.per_second() / self.one_by_one.load.per_second()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "clients": self.clients,
            "batched": self.batched.to_json(),
            "one_by_one": self.one_by_one.to_json(),
            "ratio": self.ratio(),
        })
    }
}

impl Figures {
    /// Returns the given quantile of the time between producing a request and receiving its reply,
    /// in milliseconds.
    pub(super) fn latency_ms(&self, quantile: f64) -> f64 {
        millis(self.load.latency(quantile))
    }

    fn to_json(&self) -> Value {
        json!({
            "requests": self.load.requests,
            "requests_per_second": self.load.per_second(),
            "latency_ms": {
                "p50": self.latency_ms(0.5),
                "p95": self.latency_ms(0.95),
                "p99": self.latency_ms(0.99),
            },
            "burst_ms": millis(self.burst),
            "mean_batch": self.mean_batch,
        })
    }
}

/// Formats the point as a row of the table that the benchmark prints. The columns match the header
/// that `measure_all` prints.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, batched, one_by_one } = self;
        write!(
            f,
            "{clients:>7}  {:>7.0} {:>7.1} {:>7.1} {:>7.1}  {:>7.0} {:>8.1} {:>8.1}  {:>5.2}",
            batched.load.per_second(),
            batched.latency_ms(0.5),
            batched.latency_ms(0.99),
            batched.mean_batch,
            one_by_one.load.per_second(),
            one_by_one.latency_ms(0.5),
            one_by_one.latency_ms(0.99),
            self.ratio(),
        )
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

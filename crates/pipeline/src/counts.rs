//! `Counts`: how many answers a pipeline has given, how long they took, and the last failures.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use forebay_stream::{Event, Failure, Meta, Outcome, Receipt, Settle, Sink};
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The numbers of answers so far, which the running pipeline updates. Each request counts once. A
/// dead letter counts as an error.
#[derive(Clone)]
pub(crate) struct Counts(Arc<Shared>);

struct Shared {
    results: AtomicU64,
    errors: AtomicU64,
    /// The newest last.
    failures: Mutex<VecDeque<LastFailure>>,
    metrics: Metrics,
}

struct Metrics {
    results: Counter,
    seconds: Histogram,
    delivery: Histogram,
}

/// One of the last failed requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LastFailure {
    /// When it failed.
    pub at: SystemTime,
    /// The place of the request in its source, such as `requests[3]@1042`.
    pub origin: String,
    /// The key of the request, if it has one.
    pub key: Option<String>,
    /// Why it failed, and at which step.
    pub failure: Failure,
}

/// The form in which a request that failed is answered, as the label `outcome` of the metric.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    Error,
    DeadLetter,
    Stop,
}

impl Failing {
    const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::DeadLetter => "dead_letter",
            Self::Stop => "stopped",
        }
    }
}

const REQUESTS: &str = "forebay_requests_total";

impl Default for Counts {
    fn default() -> Self {
        Self::with(Metrics {
            results: counter!(REQUESTS, "outcome" => "result", "code" => ""),
            seconds: histogram!("forebay_request_seconds"),
            delivery: histogram!("forebay_request_delivery_seconds"),
        })
    }
}

impl Counts {
    /// Creates counts of events that are no requests, and do not appear in the metrics.
    pub(crate) fn uncounted() -> Self {
        let (seconds, delivery) = (Histogram::noop(), Histogram::noop());
        Self::with(Metrics { results: Counter::noop(), seconds, delivery })
    }

    fn with(metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            results: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failures: Mutex::default(),
            metrics,
        }))
    }

    pub(crate) fn results(&self) -> u64 {
        self.0.results.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }

    /// Returns the last failures, the newest last.
    pub(crate) fn last_failures(&self) -> Vec<LastFailure> {
        self.0.failures.lock().iter().cloned().collect()
    }

    /// Counts a request that failed.
    pub(crate) fn failed(&self, failure: &Failure, meta: &Meta, failing: Failing) {
        const KEPT: usize = 20;
        tracing::debug!(%failure, origin = %meta.origin, request_id = request_id(meta), "request failed");
        if !matches!(failing, Failing::Stop) {
            self.0.errors.fetch_add(1, Ordering::Relaxed);
        }
        let code = failure.code().to_owned();
        counter!(REQUESTS, "outcome" => failing.label(), "code" => code).increment(1);
        let last = LastFailure {
            at: SystemTime::now(),
            origin: meta.origin.to_string(),
            key: meta.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
            failure: failure.clone(),
        };
        let mut failures = self.0.failures.lock();
        if failures.len() == KEPT {
            failures.pop_front();
        }
        failures.push_back(last);
    }

    /// Counts the results that a sink delivers. A result that the sink refuses is not counted,
    /// because its request gets an error. Error replies, which `is_error` tells, are counted when
    /// they are made.
    pub(crate) fn delivered_by<T, S: Sink<T>>(
        &self,
        sink: S,
        is_error: fn(&T) -> bool,
    ) -> Counting<T, S> {
        Counting { sink, counts: self.clone(), is_error }
    }

    /// Counts a request of a source that itself answers its clients with the failures.
    pub(crate) fn failing<T>(&self, event: Event<T>) -> Event<T> {
        let counts = self.clone();
        let meta = Arc::clone(&event.meta);
        settled(event, move |outcome| {
            if let Outcome::Failed(failure) = outcome {
                counts.failed(failure, &meta, Failing::Error);
            }
        })
    }

    /// Counts a delivered result, which was given to its sink at `sent`.
    fn delivered(&self, is_error: bool, came: Option<SystemTime>, sent: Instant) {
        let metrics = &self.0.metrics;
        if !is_error {
            self.0.results.fetch_add(1, Ordering::Relaxed);
            metrics.results.increment(1);
        }
        metrics.delivery.record(sent.elapsed().as_secs_f64());
        if let Some(came) = came {
            // The client's clock may be ahead of this one.
            metrics.seconds.record(came.elapsed().unwrap_or(Duration::ZERO).as_secs_f64());
        }
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (results, errors) = (self.results(), self.errors());
        f.debug_struct("Counts").field("results", &results).field("errors", &errors).finish()
    }
}

/// Returns the id that the client gave the request, in the first header that has one: as text, or
/// otherwise in hexadecimal digits.
pub(crate) fn request_id(meta: &Meta) -> Option<String> {
    const HEADERS: [&str; 3] = ["kafka_correlationId", "x-request-id", "correlation-id"];
    let id = HEADERS.iter().find_map(|name| meta.header(name))?;
    Some(match std::str::from_utf8(id) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => id.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        }),
    })
}

/// A sink that counts the answers that it delivers.
pub(crate) struct Counting<T, S> {
    sink: S,
    counts: Counts,
    is_error: fn(&T) -> bool,
}

impl<T: Send + 'static, S: Sink<T>> Sink<T> for Counting<T, S> {
    type Error = S::Error;

    async fn send(&mut self, event: Event<T>) -> Result<(), S::Error> {
        let is_error = (self.is_error)(&event.value);
        let counts = self.counts.clone();
        let (came, sent) = (event.meta.timestamp, Instant::now());
        let event = settled(event, move |outcome| {
            if *outcome == Outcome::Done {
                counts.delivered(is_error, came, sent);
            }
        });
        self.sink.send(event).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.sink.flush().await
    }

    async fn close(&mut self) -> Result<(), S::Error> {
        self.sink.close().await
    }
}

/// Calls `then` with the outcome of the event's receipt, once it is settled.
fn settled<T>(event: Event<T>, then: impl FnOnce(&Outcome) + Send + Sync + 'static) -> Event<T> {
    let Event { value, meta, receipt } = event;
    let receipt = Receipt::of(Settled { receipt: [receipt], then });
    Event { value, meta, receipt }
}

/// Stands for the receipt of an event that is counted.
struct Settled<F> {
    receipt: [Receipt; 1],
    then: F,
}

impl<F: FnOnce(&Outcome) + Send + Sync + 'static> Settle for Settled<F> {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { receipt: [receipt], then } = *self;
        then(&outcome);
        receipt.resolve(outcome);
    }

    fn stands_for(&self) -> &[Receipt] {
        &self.receipt
    }
}

#[cfg(test)]
mod tests {
    use forebay_stream::{Event, Failure};

    use super::Counts;

    #[test]
    fn a_failed_request_of_a_source_that_answers_itself_counts_as_an_error_a11() {
        let counts = Counts::default();
        let event = || counts.failing(Event::detached(()));
        event().receipt.done();
        drop(event());
        let share = event();
        share.receipt.share().fail(Failure::new("a", "b"));
        share.receipt.fail(Failure::new("c", "d"));
        event().receipt.fail(Failure::new("e", "f"));
        assert_eq!(counts.errors(), 2);
        let failures = counts.last_failures();
        let codes: Vec<_> = failures.iter().map(|last| last.failure.code()).collect();
        assert_eq!(codes, ["a", "e"]);
    }
}

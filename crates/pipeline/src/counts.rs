//! `Counts`: how many answers a pipeline has given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_stream::{Event, Outcome, Receipt, Settle, Sink};

/// The numbers of answers so far, which the running pipeline updates. A dead letter counts as an
/// error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) results: Arc<AtomicU64>,
    pub(crate) errors: Arc<AtomicU64>,
}

impl Counts {
    /// Counts the results that a sink delivers. A result that the sink refuses is not counted,
    /// because its request gets an error. Error replies, which `is_error` tells, are counted when
    /// they are made.
    pub(crate) fn delivered_by<T, S: Sink<T>>(
        &self,
        sink: S,
        is_error: fn(&T) -> bool,
    ) -> Counting<T, S> {
        Counting { sink, results: Arc::clone(&self.results), is_error }
    }

    /// Counts a request of a source that itself answers its clients with the failures.
    pub(crate) fn failing<T>(&self, event: Event<T>) -> Event<T> {
        let is_counted = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        counted(event, Arc::clone(&self.errors), is_counted)
    }
}

/// A sink that counts the results that it delivers.
pub(crate) struct Counting<T, S> {
    sink: S,
    results: Arc<AtomicU64>,
    is_error: fn(&T) -> bool,
}

impl<T: Send + 'static, S: Sink<T>> Sink<T> for Counting<T, S> {
    type Error = S::Error;

    async fn send(&mut self, event: Event<T>) -> Result<(), S::Error> {
        let event = if (self.is_error)(&event.value) {
            event
        } else {
            counted(event, Arc::clone(&self.results), |outcome| *outcome == Outcome::Done)
        };
        self.sink.send(event).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.sink.flush().await
    }

    async fn close(&mut self) -> Result<(), S::Error> {
        self.sink.close().await
    }
}

/// Counts the event when its receipt settles with an outcome that `is_counted` accepts.
fn counted<T>(
    event: Event<T>,
    counter: Arc<AtomicU64>,
    is_counted: fn(&Outcome) -> bool,
) -> Event<T> {
    let Event { value, meta, receipt } = event;
    let receipt = Receipt::of(Counted { receipt: [receipt], counter, on: is_counted });
    Event { value, meta, receipt }
}

/// Stands for the receipt of an event that is counted.
struct Counted {
    receipt: [Receipt; 1],
    counter: Arc<AtomicU64>,
    /// Whether an outcome is counted.
    on: fn(&Outcome) -> bool,
}

impl Settle for Counted {
    fn settle(self: Box<Self>, outcome: Outcome) {
        let Self { receipt: [receipt], counter, on } = *self;
        if on(&outcome) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        receipt.resolve(outcome);
    }

    fn stands_for(&self) -> &[Receipt] {
        &self.receipt
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

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
        assert_eq!(counts.errors.load(Ordering::Relaxed), 2);
    }
}

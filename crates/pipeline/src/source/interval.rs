//! `[source.interval]`: counts at a fixed interval.

use std::convert::Infallible;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use forebay_stream::{Event, Flow, Meta, Origin, Source};
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::{NothingToClose, OpenSource, RunningSource, SourceEnd};
use crate::error::RunError;
use crate::file;
use crate::json::Json;
use crate::record::{Format, Until};

/// `[source.interval]`: the numbers 0, 1, 2 and so on, one in each interval.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntervalSource {
    /// The interval.
    every: file::Interval,
    /// The number of values; without it the source never ends.
    count: Option<NonZeroU64>,
}

impl SourceEnd for IntervalSource {
    fn title(&self) -> String {
        let every = humantime_serde::re::humantime::format_duration(self.every.0);
        format!("interval: {every}")
    }

    fn format(&self) -> Format {
        Format::Json
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        let source = Counter::new(self.every.0, self.count);
        let title = self.title();
        let start = OpenSource::Other(Box::new(|stop| {
            let records = Flow::from_source(title, Until { source, stop });
            let control = Box::new(NothingToClose);
            Box::pin(std::future::ready(Ok(RunningSource { records, control })))
        }));
        Box::pin(std::future::ready(Ok(start)))
    }
}

/// A source of the numbers 0, 1, 2 and so on: 0 at once, and one more at each tick. If several
/// ticks pass before the next number is asked for, they give one number only. Later ticks keep the
/// schedule.
struct Counter {
    every: Duration,
    // Created in `next`, because a tokio interval needs a runtime.
    ticks: Option<Interval>,
    next: u64,
    count: Option<NonZeroU64>,
}

impl Counter {
    fn new(every: Duration, count: Option<NonZeroU64>) -> Self {
        Self { every, ticks: None, next: 0, count }
    }
}

impl Source<Json> for Counter {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Event<Json>>, Infallible> {
        if self.count.is_some_and(|count| self.next == count.get()) {
            return Ok(None);
        }
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = tokio::time::interval(self.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        ticks.tick().await;
        let position = self.next;
        self.next += 1;
        let origin = Origin { source: "interval".into(), partition: None, position };
        let meta = Arc::new(Meta { origin, ..Meta::default() });
        Ok(Some(Event { meta, ..Event::detached(Json::from(position)) }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forebay_stream::Source as _;
    use tokio::time::{Instant, sleep};

    use super::Counter;

    #[tokio::test(start_paused = true)]
    async fn several_missed_ticks_give_one_number() {
        let start = Instant::now();
        let mut ticks = Counter::new(Duration::from_millis(10), std::num::NonZeroU64::new(3));
        let mut seen = Vec::new();
        while let Some(event) = ticks.next().await.unwrap() {
            seen.push((event.value.to_string(), start.elapsed().as_millis()));
            sleep(Duration::from_millis(if seen.len() == 1 { 25 } else { 1 })).await;
        }
        let expected = [("0", 0), ("1", 25), ("2", 30)];
        assert_eq!(seen, expected.map(|(number, at)| (number.to_owned(), at)));
    }
}

//! The offsets that a Kafka source commits, under the name that its `committed` gives them.

use std::convert::Infallible;

use forebay_kafka::{CommittedOffset, CommittedOffsets};
use forebay_stream::{Event, Flow, Outcome, Receipt, Source};
use futures::future::BoxFuture;

use super::{NothingToClose, OpenSource, RunningSource, SourceEnd};
use crate::error::RunError;
use crate::json::Json;
use crate::record::{Format, Record};

/// The offsets that a Kafka source of the plan commits.
#[derive(Clone)]
pub(crate) struct CommittedSource {
    /// The index of the Kafka source; `None` if another source has taken its place, which commits
    /// nothing.
    pub(crate) of: Option<usize>,
    /// The topic that the Kafka source reads.
    pub(crate) topic: String,
}

impl SourceEnd for CommittedSource {
    fn title(&self) -> String {
        format!("committed: {}", self.topic)
    }

    fn format(&self) -> Format {
        Format::Json
    }

    /// Opens a source without events. [`open_beside`](Self::open_beside) is for the others.
    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        let nothing = futures::stream::empty::<Result<Event<Record>, Infallible>>();
        let records = Flow::from_try_events(self.title(), nothing);
        Box::pin(std::future::ready(Ok(open(records))))
    }
}

impl CommittedSource {
    /// Opens the events of an open Kafka source. They end after the last commit, and not when the
    /// pipeline is stopped.
    pub(crate) fn open_beside(&self, source: &mut forebay_kafka::Source) -> OpenSource {
        open(Flow::from_source(self.title(), Records(source.committed())))
    }
}

fn open(records: Flow<Record>) -> OpenSource {
    let running = RunningSource { records, control: Box::new(NothingToClose) };
    OpenSource::Other(Box::new(|_| Box::pin(std::future::ready(Ok(running)))))
}

/// Committed offsets as records.
struct Records(CommittedOffsets);

impl Source<Record> for Records {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Event<Record>>, Infallible> {
        let Some(event) = self.0.next().await? else { return Ok(None) };
        let origin = event.meta.origin.clone();
        // Nothing is read again for an event, so a failure has no other consequence.
        let receipt = Receipt::new(move |outcome| match outcome {
            Outcome::Failed(failure) => {
                tracing::warn!(%origin, %failure, "the event of a commit failed and is left out");
            }
            Outcome::Done | Outcome::Abandoned => {}
        });
        Ok(Some(Event { receipt, ..event.map(|offset| Record::Value(json(&offset))) }))
    }
}

fn json(committed: &CommittedOffset) -> Json {
    let CommittedOffset { group, topic, partition, offset } = committed;
    let number = |number: i64| Json::from(number.unsigned_abs());
    let fields = [
        ("group", Json::text(group)),
        ("topic", Json::text(topic)),
        ("partition", number((*partition).into())),
        ("offset", number(*offset)),
    ];
    Json::object(fields.map(|(name, value)| (name.to_owned(), value)))
}

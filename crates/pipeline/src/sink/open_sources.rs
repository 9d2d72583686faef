//! `OpenSources`: the open sources of a pipeline, which some sinks write through.

use forebay_http::HttpSource;
use forebay_kafka::{Delivery, Source};

use crate::error::RunError;
use crate::lines::Confirm;
use crate::source::{AnySource, CommittedSource, OpenSource};

/// The sources of a pipeline, open and not read yet.
pub(crate) struct OpenSources {
    sources: Vec<OpenSource>,
    /// The index of the source with exactly-once delivery.
    exactly_once: Option<usize>,
    /// Whether every source reads its whole input again after a restart.
    start_over: bool,
}

impl OpenSources {
    pub(crate) async fn open(plan: &[AnySource]) -> Result<Self, RunError> {
        let mut sources = Vec::new();
        for source in plan {
            let opened = match source {
                AnySource::Committed(committed @ CommittedSource { of: Some(of), .. }) => {
                    match &mut sources[*of] {
                        OpenSource::Kafka { source, .. } => committed.open_beside(source),
                        _ => unreachable!("only Kafka sources commit offsets"),
                    }
                }
                source => source.end().open().await?,
            };
            sources.push(opened);
        }
        let exactly_once = plan.iter().position(|source| {
            source.kafka().is_some_and(|config| config.delivery != Delivery::AtLeastOnce)
        });
        let mut requests = plan.iter().filter(|source| !source.is_committed());
        let start_over = requests.all(|source| source.end().starts_over());
        Ok(Self { sources, exactly_once, start_over })
    }

    /// Returns no sources, for the sink of committed offsets. An offset is known to be committed once
    /// its transaction has ended, so the sink cannot write in that transaction.
    pub(crate) fn none() -> Self {
        Self { sources: Vec::new(), exactly_once: None, start_over: false }
    }

    /// Returns the source in whose transactions the sinks write, if the plan delivers exactly once.
    pub(super) fn exactly_once(&mut self) -> Option<&mut Source> {
        match &mut self.sources[self.exactly_once?] {
            OpenSource::Kafka { source, .. } => Some(source),
            _ => unreachable!("only a Kafka source delivers exactly once"),
        }
    }

    pub(super) fn http(&self) -> Option<&HttpSource> {
        self.sources.iter().find_map(|source| match source {
            OpenSource::Http { source, .. } => Some(source),
            _ => None,
        })
    }

    /// Returns whether every source reads its whole input again after a restart.
    pub(super) fn start_over(&self) -> bool {
        self.start_over
    }

    /// Returns when an answer that is written as a line counts as delivered.
    ///
    /// Standard input and a file that is not followed are read from the start after a restart,
    /// wherever the last run stopped. Waiting for the flush before a receipt is done would save no
    /// line from being read again, so an answer counts as delivered once it is in the buffer. This
    /// also keeps the answers in the order of the lines: `Flow::catch` holds back the error reply to
    /// a line until all earlier lines are settled. If those waited for the flush, the results of
    /// later lines would overtake the error reply.
    pub(super) fn confirm_lines(&self) -> Confirm {
        if self.start_over { Confirm::Buffered } else { Confirm::Flushed }
    }

    pub(crate) fn into_inner(self) -> Vec<OpenSource> {
        self.sources
    }
}

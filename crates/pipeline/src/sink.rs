//! The sinks of a pipeline file. Each kind has its own file: its table, what it says about itself,
//! and how it is opened.

mod custom;
mod dead_letters;
mod drop;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod kafka;
mod open_sources;
mod stdout;

use std::sync::Arc;

use forebay_kafka::SinkConfig;
use forebay_stream::{Flow, Pipeline};
use futures::future::BoxFuture;

use crate::answer::Answer;
use crate::counts::Counts;
use crate::error::RunError;

pub(crate) use custom::CustomSink;
pub(crate) use dead_letters::{AttachDeadLetters, open as open_dead_letters};
pub(crate) use drop::{Drop, Nowhere};
pub(crate) use file::FileSink;
pub(crate) use http::HttpReplies;
pub(crate) use kafka::{connection, is_connection_option};
pub(crate) use open_sources::OpenSources;
pub(crate) use stdout::Stdout;

/// A sink of a plan. The kinds that other settings refer to can be told apart; everything else asks
/// [`end`](Self::end).
#[derive(Clone)]
pub(crate) enum AnySink {
    Kafka(SinkConfig),
    Http(HttpReplies),
    Stdout(Stdout),
    File(FileSink),
    Drop(Drop),
    /// Registered by the user.
    Custom(Arc<dyn SinkEnd>),
}

/// The properties of a sink, and how it is opened.
pub(crate) trait SinkEnd: Send + Sync {
    /// Returns the name in graphs and logs.
    fn title(&self) -> String;

    /// Opens the sink. The sources are open and not read yet, so no request is taken if its answer
    /// cannot be written.
    fn open<'a>(
        &'a self,
        sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>>;
}

/// Attaches an open sink to a flow, and counts the results that it delivers.
pub(crate) type AttachSink = Box<dyn FnOnce(Flow<Answer>, &Counts) -> Pipeline + Send>;

impl AnySink {
    pub(crate) fn end(&self) -> &dyn SinkEnd {
        match self {
            Self::Kafka(config) => config,
            Self::Http(http) => http,
            Self::Stdout(stdout) => stdout,
            Self::File(file) => file,
            Self::Drop(drop) => drop,
            Self::Custom(sink) => sink.as_ref(),
        }
    }

    pub(crate) fn kafka(&self) -> Option<&SinkConfig> {
        match self {
            Self::Kafka(config) => Some(config),
            _ => None,
        }
    }

    /// Returns whether the sink discards its answers.
    pub(crate) fn drops(&self) -> bool {
        matches!(self, Self::Drop(_))
    }
}

//! The sources of a pipeline file. Each kind has its own file: its table, what it says about
//! itself, and how it is opened.

mod committed;
mod custom;
mod file;
pub(crate) mod http;
mod interval;
pub(crate) mod kafka;
mod stdin;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use forebay_http::HttpSource;
use forebay_kafka::SourceConfig;
use forebay_stream::{Flow, Release};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::counts::Counts;
use crate::error::RunError;
use crate::record::{Format, Record};

pub(crate) use committed::CommittedSource;
pub(crate) use custom::CustomSource;
pub(crate) use file::FileSource;
pub(crate) use http::HttpRequests;
pub(crate) use interval::IntervalSource;
pub(crate) use kafka::KafkaSource;
pub(crate) use stdin::Stdin;

/// A source of a plan. The kinds that sinks and other settings refer to can be told apart;
/// everything else asks [`end`](Self::end).
#[derive(Clone)]
pub(crate) enum AnySource {
    Kafka(KafkaSource),
    Http(HttpRequests),
    Stdin(Stdin),
    File(FileSource),
    Interval(IntervalSource),
    /// The offsets that a Kafka source commits.
    Committed(CommittedSource),
    /// Registered by the user.
    Custom(Arc<dyn SourceEnd>),
}

/// The properties of a source, and how it is opened.
pub(crate) trait SourceEnd: Send + Sync {
    /// Returns the name in graphs and logs.
    fn title(&self) -> String;

    /// Returns the form of the values.
    fn format(&self) -> Format;

    /// Returns whether inputs can have headers, which deadlines are read from.
    fn has_headers(&self) -> bool {
        false
    }

    /// Returns how many inputs may be in flight.
    fn max_in_flight(&self) -> NonZeroUsize {
        NonZeroUsize::new(4096).expect("4096 is not zero")
    }

    /// Returns the order in which error replies leave; `None` if the source itself answers its
    /// clients with the failures.
    fn error_replies(&self) -> Option<Release> {
        Some(Release::InOrder)
    }

    /// Returns whether the source reads its input to its end, and all of it again after a restart.
    fn starts_over(&self) -> bool {
        false
    }

    /// Opens the source without reading it.
    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>>;
}

/// A source that is open and not read yet.
pub(crate) enum OpenSource {
    Kafka { title: String, source: forebay_kafka::Source },
    Http { title: String, source: HttpSource },
    Other(Start),
}

/// Starts to read a source, until the token is cancelled.
pub(crate) type Start = Box<
    dyn FnOnce(CancellationToken) -> BoxFuture<'static, Result<RunningSource, RunError>> + Send,
>;

/// A source that is being read.
pub(crate) struct RunningSource {
    pub(crate) records: Flow<Record>,
    pub(crate) control: Box<dyn SourceControl>,
}

/// Watches and closes a source that is being read.
pub(crate) trait SourceControl: Send {
    /// Returns a future that completes when the source takes requests. It may never complete.
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Returns a future that completes when the source ends because an input is stuck, also if
    /// nothing polls the source any more.
    fn stuck(&self) -> BoxFuture<'static, RunError> {
        Box::pin(std::future::pending())
    }

    /// Closes the source when its pipeline has ended: waits up to `patience` for the requests in
    /// flight, and commits those that are settled.
    fn close(self: Box<Self>, patience: Duration) -> BoxFuture<'static, Result<Left, RunError>>;
}

/// The inputs that have no answer when a source is closed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// Requests that are not settled.
    pub(crate) unresolved: usize,
    /// Lines that were dropped without a result or a failure.
    pub(crate) dropped: u64,
}

/// A source that needs no closing.
struct NothingToClose;

impl SourceControl for NothingToClose {
    fn close(self: Box<Self>, _: Duration) -> BoxFuture<'static, Result<Left, RunError>> {
        Box::pin(std::future::ready(Ok(Left::default())))
    }
}

impl AnySource {
    pub(crate) fn end(&self) -> &dyn SourceEnd {
        match self {
            Self::Kafka(kafka) => kafka,
            Self::Http(http) => http,
            Self::Stdin(stdin) => stdin,
            Self::File(file) => file,
            Self::Interval(interval) => interval,
            Self::Committed(committed) => committed,
            Self::Custom(source) => source.as_ref(),
        }
    }

    /// Returns whether the values are the offsets that a Kafka source commits, which are no
    /// requests.
    pub(crate) fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }

    pub(crate) fn kafka(&self) -> Option<&SourceConfig> {
        match self {
            Self::Kafka(kafka) => Some(&kafka.config),
            _ => None,
        }
    }

    pub(crate) fn kafka_mut(&mut self) -> Option<&mut SourceConfig> {
        match self {
            Self::Kafka(kafka) => Some(&mut kafka.config),
            _ => None,
        }
    }
}

impl OpenSource {
    /// Starts to read the source, until `stop` is cancelled.
    pub(crate) async fn start(
        self,
        stop: CancellationToken,
        counts: &Counts,
    ) -> Result<RunningSource, RunError> {
        match self {
            Self::Kafka { title, source } => {
                kafka::start(title, source, &stop).map_err(RunError::Connect)
            }
            Self::Http { title, source } => Ok(http::start(title, source, &stop, counts)),
            Self::Other(start) => start(stop).await,
        }
    }
}

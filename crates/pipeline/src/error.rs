//! `RunError`: the reason why a pipeline did not start, or ended before its input did.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use forebay_stream::{Failure, Origin, PipelineError};
use thiserror::Error;

/// Any error of a connector or a model.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The reason why a pipeline did not start, or ended before its input did.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A model could not be loaded or warmed up.
    #[error("cannot load the model `{name}`")]
    Model {
        /// The name under `[model]`.
        name: String,
        /// The error from its files or its device.
        source: forebay_model::Error,
    },
    /// Kafka could not be reached, or a topic is missing.
    #[error("cannot connect to Kafka")]
    Connect(#[source] forebay_kafka::Error),
    /// An HTTP source could not listen, or its server ended.
    #[error("cannot take HTTP requests")]
    Listen(#[source] forebay_http::Error),
    /// A source or sink of the user's own could not be opened.
    #[error("cannot open `{kind}`")]
    Custom {
        /// The name under which it was registered.
        kind: String,
        /// The error that it returned.
        source: BoxError,
    },
    /// A file could not be opened.
    #[error("cannot open {}; check `path`, and that this user may use the file", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A source or a sink failed while running.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A record of a Kafka source has made no progress for too long.
    #[error("the source failed")]
    Stuck(#[source] forebay_kafka::Stuck),
    /// A model's thread ended, and the model could not be built again.
    #[error("the model `{name}` ended")]
    ModelEnded {
        /// The name under `[model]`.
        name: String,
        /// The last failure of the model.
        #[source]
        failure: Failure,
    },
    /// A request failed after its retries, and the pipeline's policy is to stop.
    #[error("stopped by policy = \"stop\": the request at {origin} failed")]
    StoppedAtFailure {
        /// The source and the position of the request.
        origin: Origin,
        /// Why it failed, and at which step.
        #[source]
        failure: Failure,
    },
    /// Requests that were in flight when the pipeline was stopped took too long. Requests from
    /// Kafka will be read again.
    #[error(
        "the requests in flight could not be answered within {after:?}; those from Kafka will be read again"
    )]
    Overdue {
        /// The shutdown timeout.
        after: Duration,
    },
    /// Neither the answer to a line nor the error reply could be delivered.
    #[error("an answer could not be delivered")]
    Unanswered {
        /// The first failure that no answer reported.
        #[source]
        failure: Failure,
    },
    /// Some requests were not settled at the end. Requests from Kafka will be read again.
    #[error("{count} requests were left without an answer; those from Kafka will be read again")]
    Unresolved {
        /// The number of requests that were not settled.
        count: usize,
    },
    /// The last offsets could not be committed. The records that they cover will be read again.
    #[error("cannot commit the last offsets of the Kafka source")]
    Close(#[source] forebay_kafka::Error),
}

impl RunError {
    /// Returns whether the pipeline failed before it took requests.
    #[must_use]
    pub fn is_startup(&self) -> bool {
        matches!(
            self,
            Self::Model { .. }
                | Self::Connect(_)
                | Self::Listen(_)
                | Self::Custom { .. }
                | Self::Open { .. }
        )
    }
}

//! `RunError`: why a pipeline did not start, or ended early.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use forebay_stream::{Failure, PipelineError};
use thiserror::Error;

use crate::registry::BoxError;

/// Why a pipeline did not start, or ended before its input did.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A model could not be loaded or warmed up.
    #[error("cannot load the model `{name}`")]
    Model {
        /// The name under `[model]`.
        name: String,
        /// What is wrong with its files, or its device.
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
        /// What it reported.
        source: BoxError,
    },
    /// A file could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system reported.
        source: io::Error,
    },
    /// A source or a sink could not go on.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A model's thread ended, and the model could not be built again.
    #[error("the model `{name}` ended")]
    ModelEnded {
        /// The name under `[model]`.
        name: String,
        /// Why.
        #[source]
        failure: Failure,
    },
    /// What was in flight when the pipeline was stopped took too long; it will be read again.
    #[error(
        "what was in flight could not be answered within {after:?}; what came from Kafka will be read again"
    )]
    Overdue {
        /// The deadline.
        after: Duration,
    },
    /// A line's answer could not be delivered, and neither could the error that should have told so.
    #[error("an answer could not be delivered")]
    Unanswered {
        /// Why.
        #[source]
        failure: Failure,
    },
    /// Some requests had no outcome at the end; they will be read again.
    #[error(
        "{count} requests were left without an answer; what came from Kafka will be read again"
    )]
    Unresolved {
        /// How many.
        count: usize,
    },
    /// The last offsets could not be committed; what they cover will be read again.
    #[error("cannot close the Kafka source in order")]
    Close(#[source] forebay_kafka::Error),
}

impl RunError {
    /// Whether the pipeline never began to take requests.
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

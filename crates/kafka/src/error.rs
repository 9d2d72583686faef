//! Errors from reading and writing Kafka topics.

use std::fmt;
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// Why a Kafka source, sink or helper could not do its work.
///
/// Messages are lowercase fragments that leave out the cause; follow
/// [`source`](std::error::Error::source) (or print with `{:#}` through `anyhow`) to see the chain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A librdkafka option was given that Forebay sets itself.
    #[error("the librdkafka option {option:?} cannot be set here: {instead}")]
    ReservedOption {
        /// The option as it was given.
        option: String,
        /// The setting to use instead, or the reason why the value is fixed.
        instead: &'static str,
    },

    /// A setting contradicts another, or can never work.
    #[error("invalid {setting}: {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The problem, and a value that would be right.
        reason: String,
    },

    /// librdkafka rejected the client's configuration.
    #[error("librdkafka rejected the client configuration")]
    Configure(#[source] ClientError),

    /// No broker answered in time. Retrying may succeed.
    #[error(
        "no broker answered at {brokers} within {timeout:?}; check the address and that Kafka runs there ({detail})"
    )]
    Unreachable {
        /// Bootstrap servers that were tried.
        brokers: String,
        /// How long the client waited.
        timeout: Duration,
        /// The last thing that the client reported, such as a refused connection.
        detail: String,
    },

    /// The brokers rejected the credentials, or the SASL mechanism.
    #[error(
        "authentication failed at {brokers}; check `sasl.mechanisms`, `sasl.username` and `sasl.password` among the `options` ({detail})"
    )]
    Authentication {
        /// Bootstrap servers that were tried.
        brokers: String,
        /// The detail that the client reported.
        detail: String,
    },

    /// The address accepts connections, but ends them before it answers as a Kafka broker does.
    #[error(
        "connections to {brokers} end before Kafka answers; if the brokers require TLS or SASL, set `security.protocol` among the `options` ({detail})"
    )]
    HungUp {
        /// Bootstrap servers that were tried.
        brokers: String,
        /// The detail that the client reported.
        detail: String,
    },

    /// The brokers answer, but the addresses that they advertise for further connections do not.
    #[error(
        "{asked} advertises {advertised}, which does not answer; set `advertised.listeners` of the brokers to addresses \
         that this machine can reach ({detail})"
    )]
    Advertised {
        /// The bootstrap server that was asked.
        asked: String,
        /// The addresses that it advertises.
        advertised: String,
        /// The last thing that the client reported, such as a refused connection.
        detail: String,
    },

    /// The address answers, but not as a Kafka broker does.
    #[error("no broker answers at {brokers}, but something else does: {detail}")]
    NotABroker {
        /// Bootstrap servers that were tried.
        brokers: String,
        /// The kind of server that it may be, and the port to use instead.
        detail: &'static str,
    },

    /// No TLS connection to the brokers could be made, for example because their certificates
    /// cannot be verified.
    #[error(
        "no TLS connection to {brokers}; check `security.protocol`, and `ssl.ca.location`, which names the file with the certificate of the brokers' authority, among the `options` ({detail})"
    )]
    Tls {
        /// Bootstrap servers that were tried.
        brokers: String,
        /// The detail that the client reported.
        detail: String,
    },

    /// The brokers answered, and do not have the topic.
    #[error("the topic {topic:?} does not exist at {brokers}; create it, or correct the name")]
    NoSuchTopic {
        /// Bootstrap servers that were asked.
        brokers: String,
        /// The topic that is missing.
        topic: String,
    },

    /// The brokers answered, and do not let this client use the topic.
    #[error("the topic {topic:?} cannot be used at {brokers}")]
    Topic {
        /// Bootstrap servers that were asked.
        brokers: String,
        /// The topic.
        topic: String,
        /// The error that the brokers reported.
        source: ClientError,
    },

    /// A topic can no longer be read.
    #[error("reading {topic} failed")]
    Read {
        /// The topic being read.
        topic: String,
        /// The error that librdkafka reported.
        source: ClientError,
    },

    /// Offsets could not be committed; records that were answered since the last commit will be
    /// read again.
    #[error("committing the offsets of {topic} failed")]
    Commit {
        /// The topic being read.
        topic: String,
        /// The error that librdkafka reported.
        source: ClientError,
    },

    /// A record failed and nothing in the pipeline answered the failure, so the source must not go
    /// past it.
    #[error("nothing answered the failure of {origin}")]
    Unanswered {
        /// The record's topic, partition and offset.
        origin: Origin,
        /// Why it failed.
        #[source]
        failure: Box<Failure>,
    },

    /// The oldest record without an answer has made no progress for too long.
    #[error(transparent)]
    Stuck(#[from] Stuck),

    /// Replies can no longer be written in transactions.
    #[error("the transactions of the consumer of {topic} cannot go on")]
    Transaction {
        /// The topic being read.
        topic: String,
        /// The error that librdkafka reported.
        source: ClientError,
    },

    /// Another producer with the same transactional id keeps fencing this one.
    #[error(
        "another producer with the transactional id {id:?} took over twice within a minute; give every instance its \
         own id"
    )]
    Fenced {
        /// The id.
        id: String,
    },

    /// The last transaction failed; the records that it answered will be read again.
    #[error("the last transaction of the consumer of {topic} was not committed")]
    Uncommitted {
        /// The topic being read.
        topic: String,
    },

    /// A reply that answers no request of the source came to a sink that writes exactly once.
    #[error(
        "a reply for {topic} answers no request of the source that the sink belongs to, so it cannot be written exactly \
         once"
    )]
    NoRequest {
        /// The topic to be written.
        topic: String,
    },

    /// Records could not be written to a topic.
    #[error("writing to {topic} failed")]
    Write {
        /// The topic being written.
        topic: String,
        /// The error that librdkafka reported.
        source: ClientError,
    },

    /// The topic of a sink existed when the sink connected, and does not exist any more.
    #[error(
        "the topic {topic:?} does not exist any more, so no reply can be written to it; create it again"
    )]
    TopicGone {
        /// The topic being written.
        topic: String,
    },

    /// The sink was closed before everything was delivered.
    #[error("{count} records for {topic} were not delivered within {timeout:?}")]
    Undelivered {
        /// The topic being written.
        topic: String,
        /// Records without a confirmation.
        count: usize,
        /// How long the sink waited.
        timeout: Duration,
    },

    /// A thread of this crate ended although it should not have.
    #[error("the thread that serves {topic} ended unexpectedly; the log has its panic")]
    ThreadEnded {
        /// The topic it served.
        topic: String,
    },

    /// Too many calls to write a transaction have not returned.
    #[error(
        "{count} calls of librdkafka have not returned, each of which holds a thread and connections; start the \
         process again: requests without an answer are read again"
    )]
    StuckCalls {
        /// The number of calls.
        count: usize,
    },

    /// The consumer did not close in time; its group removes it after the session timeout.
    #[error("the consumer of {topic} did not close within {timeout:?}")]
    CloseTimedOut {
        /// The topic being read.
        topic: String,
        /// How long closing was waited for.
        timeout: Duration,
    },

    /// A topic could not be created.
    #[error("cannot create the topic {topic:?}")]
    CreateTopic {
        /// The topic.
        topic: String,
        /// The error that the brokers reported.
        source: ClientError,
    },

    /// A request was delivered and no reply came.
    #[error("no reply to a request in {topic} came within {patience:?}")]
    NoReply {
        /// The topic that the request was written to.
        topic: String,
        /// How long the reply was waited for.
        patience: Duration,
    },

    /// The operating system refused to start a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// A record that has made no progress for too long.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error(
    "{origin}, the oldest record in flight, has got no answer for {timeout:?} (`stuck_timeout`): {state}. It is read \
     again after the next start; find out what holds it up there, or set a longer `stuck_timeout`"
)]
pub struct Stuck {
    /// The record's topic, partition and offset.
    pub origin: Origin,
    /// Where the record is, for people: the step that it is in, if that is known.
    pub state: String,
    /// The time without progress that is allowed.
    pub timeout: Duration,
}

impl Error {
    /// Whether the same operation may succeed if tried again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::HungUp { .. }
            | Self::Advertised { .. }
            | Self::Undelivered { .. }
            | Self::CloseTimedOut { .. } => true,
            Self::Commit { source, .. } => source.is_transient(),
            _ => false,
        }
    }
}

/// The error that librdkafka reported.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientError(Box<KafkaError>);

impl ClientError {
    pub(crate) fn from_code(code: RDKafkaErrorCode) -> Self {
        Self(Box::new(KafkaError::Global(code)))
    }

    fn is_transient(&self) -> bool {
        !matches!(
            self.0.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::FencedInstanceId
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
    }
}

impl From<KafkaError> for ClientError {
    fn from(error: KafkaError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names a rejected setting without its value, which may be a password.
        if let KafkaError::ClientConfig(_, reason, name, _) = &*self.0 {
            return write!(f, "{name}: {reason}");
        }
        match self.0.rdkafka_error_code() {
            // The code is enough: the variant of `KafkaError` would only repeat the surrounding
            // error.
            Some(code) => write!(f, "{code}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientError").field(&self.to_string()).finish()
    }
}

impl std::error::Error for ClientError {}

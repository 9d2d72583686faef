//! `TxnError`: classifies the errors of transactional calls by what has to be done about them.

use std::fmt;

use forebay_stream::Code;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::codes;
use crate::error::ClientError;

/// The reaction that an error of a transactional call requires.
#[derive(Debug)]
pub(super) enum TxnError {
    /// The same call may succeed if it is repeated.
    Retry(KafkaError),
    /// The transaction has to be aborted; the producer can begin another.
    Abort(KafkaError),
    /// The outcome is unknown or the producer is unusable: a new producer has to take over.
    Rebuild(KafkaError),
    /// Repeating cannot help: the source ends.
    GiveUp(KafkaError),
    /// A partition was lost while a transaction with its offsets was open.
    Lost,
    /// The source ended, or another worker took over.
    Over,
}

impl TxnError {
    /// Whether this producer was fenced: by another producer with the same transactional id, or by
    /// the brokers because its transaction timed out.
    pub(super) fn is_fenced(&self) -> bool {
        let Self::Rebuild(error) = self else { return false };
        matches!(
            code(error),
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        )
    }
}

impl fmt::Display for TxnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(error)
            | Self::Abort(error)
            | Self::Rebuild(error)
            | Self::GiveUp(error) => {
                write!(f, "{}", ClientError::from(error.clone()))
            }
            Self::Lost => write!(f, "a partition of the transaction was lost"),
            Self::Over => write!(f, "the source ended"),
        }
    }
}

impl From<KafkaError> for TxnError {
    fn from(error: KafkaError) -> Self {
        if code(&error).is_some_and(is_permanent) {
            return Self::GiveUp(error);
        }
        match &error {
            KafkaError::Transaction(of) if of.is_fatal() => Self::Rebuild(error),
            KafkaError::Transaction(of) if of.txn_requires_abort() => Self::Abort(error),
            KafkaError::Transaction(of) if of.is_retriable() => Self::Retry(error),
            // Waiting for deliveries timed out, because some have not been reported yet.
            KafkaError::Flush(_) => Self::Retry(error),
            // A record was refused. If the transaction cannot be aborted either,
            // `abort_transaction` returns its own error.
            KafkaError::MessageProduction(_) => Self::Abort(error),
            _ => Self::Rebuild(error),
        }
    }
}

pub(super) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        error => error.rdkafka_error_code(),
    }
}

/// Whether an error lasts until the settings of the brokers or of Forebay are changed.
fn is_permanent(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidTransactionTimeout
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::UnsupportedFeature
    )
}

/// Returns the failure code for a reply, if the reply itself caused the error and would cause it
/// again.
pub(super) fn record_failure_code(error: &KafkaError) -> Option<Code> {
    match code(error)? {
        RDKafkaErrorCode::MessageSizeTooLarge => Some(codes::REPLY_TOO_LARGE),
        RDKafkaErrorCode::InvalidMessageSize
        | RDKafkaErrorCode::InvalidMessage
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition => Some(codes::DELIVERY_FAILED),
        _ => None,
    }
}

/// Whether the error says that the group has rebalanced or is about to.
pub(super) fn is_rebalance(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::StaleMemberEpoch
        )
    )
}

//! `TxnError`: what a failed transactional call means, and what to do about it.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::ClientError;

/// What has to be done about an error of a transactional call.
#[derive(Debug)]
pub(super) enum TxnError {
    /// The same call may succeed, with the same arguments.
    Retry(KafkaError),
    /// The transaction has to be aborted; the producer is good for another.
    Abort(KafkaError),
    /// The outcome is unknown or the producer is dead: another has to take over.
    Rebuild(KafkaError),
    /// Trying again is of no use.
    GiveUp(KafkaError),
    /// A partition of the transaction was lost while it was open.
    Lost,
    /// The source ended, or another worker took over.
    Over,
}

impl TxnError {
    /// Whether another producer with the same id has taken over, or the brokers have given this one up.
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
            Self::Lost => write!(f, "a partition of it was lost"),
            Self::Over => write!(f, "the source ended"),
        }
    }
}

impl From<KafkaError> for TxnError {
    fn from(error: KafkaError) -> Self {
        if code(&error).is_some_and(is_hopeless) {
            return Self::GiveUp(error);
        }
        match &error {
            KafkaError::Transaction(of) if of.is_fatal() => Self::Rebuild(error),
            KafkaError::Transaction(of) if of.txn_requires_abort() => Self::Abort(error),
            KafkaError::Transaction(of) if of.is_retriable() => Self::Retry(error),
            // Not all deliveries have been reported.
            KafkaError::Flush(_) => Self::Retry(error),
            // Of a record: the transaction can only be aborted, and if it cannot, that call says so.
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

/// Errors that stay until somebody changes the brokers' settings or Forebay's.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
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

/// Errors that are of one record and would come again with it, with the code of the failure that it becomes.
pub(super) fn of_the_record(error: &KafkaError) -> Option<&'static str> {
    match code(error)? {
        RDKafkaErrorCode::MessageSizeTooLarge => Some("reply_too_large"),
        RDKafkaErrorCode::InvalidMessageSize
        | RDKafkaErrorCode::InvalidMessage
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition => Some("delivery_failed"),
        _ => None,
    }
}

/// Errors that say that the group has changed, or is about to.
pub(super) fn is_of_the_group(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
    )
}

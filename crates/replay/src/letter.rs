//! `Letter`: a dead letter with the request that failed.

use bytes::Bytes;
use forebay_kafka::DeadLetter;
use forebay_stream::{Header, Origin};

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The failure, and the origin of the request.
    pub about: DeadLetter,
    /// The request's key.
    pub key: Option<Bytes>,
    /// The request's value.
    pub value: Option<Bytes>,
    /// The request's own headers.
    pub headers: Vec<Header>,
    /// Topic, partition and offset of the letter itself.
    pub at: Origin,
}

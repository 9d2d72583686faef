//! The load of a source, and the result of closing it.

use std::time::Duration;

use forebay_stream::Origin;

/// The result of closing a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Number of records that were handed out and not settled before the deadline. They are read
    /// again by the next owners of their partitions.
    pub unresolved: usize,
    /// Number of records that failed or were abandoned. They and the records that follow them in
    /// their partitions are read again.
    pub held: usize,
}

/// The load of a source at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of records that are read and not settled, [held](Self::held) ones included.
    pub in_flight: usize,
    /// Size of these records in bytes, with a fixed overhead for each. With exactly-once delivery,
    /// records and their replies count until they are committed.
    pub in_flight_bytes: usize,
    /// Number of records that failed or were abandoned. Their offsets, and those that follow in
    /// their partitions, are not committed.
    pub held: usize,
    /// Number of partitions that are revoked and will be given back once their records in flight
    /// are settled.
    pub handing_over: usize,
    /// The record that has been in flight for the longest time.
    pub oldest: Option<Oldest>,
}

/// The record that has been in flight for the longest time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Topic, partition and offset of the record.
    pub origin: Origin,
    /// Time since the record was read.
    pub age: Duration,
}

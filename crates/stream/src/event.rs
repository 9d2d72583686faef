//! `Event`: a value that flows between operators, with the metadata and a receipt of the input that
//! it was made of.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::Receipt;

/// One element of a flow.
#[derive(Debug)]
pub struct Event<T> {
    /// The value. User functions see nothing else of the event.
    pub value: T,
    /// The metadata of the input. All events that are derived from one input share it.
    pub meta: Arc<Meta>,
    /// Tells the source when the work on this event is over.
    pub receipt: Receipt,
}

/// The metadata that came with an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The record's key, byte for byte; `None` for a record without one.
    pub key: Option<Bytes>,
    /// The record's headers, in their order.
    pub headers: Vec<Header>,
    /// The time at which the input was made, as its source reports it.
    pub timestamp: Option<SystemTime>,
    /// The place that the input came from, for log lines and error messages.
    pub origin: Origin,
}

/// The place of an input in its source; printed as `requests[3]@1042`, or `stdin:12` for a source
/// without partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The source's name, such as a topic or a file. Empty if there is none.
    pub source: Arc<str>,
    /// The partition within the source, for sources that have partitions.
    pub partition: Option<i32>,
    /// The offset within the partition, or the number of the line.
    pub position: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}[{partition}]@{}", self.source, self.position),
            None => write!(f, "{}:{}", self.source, self.position),
        }
    }
}

/// One header of a record. Values are bytes, and may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

impl Meta {
    /// Returns the value of the last header called `name`, if there is one and it is not null.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().rev().find(|header| header.name == name)?.value.as_ref()
    }
}

impl<T> Event<T> {
    /// Creates an event without key, headers or origin, whose outcome no source waits for.
    pub fn detached(value: T) -> Self {
        Self { value, meta: Arc::default(), receipt: Receipt::detached() }
    }

    /// Replaces the value; metadata and receipt stay the same.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Event<U> {
        Event { value: f(self.value), meta: self.meta, receipt: self.receipt }
    }

    /// Splits the event into its value and the event without a value.
    pub fn take(self) -> (T, Event<()>) {
        (self.value, Event { value: (), meta: self.meta, receipt: self.receipt })
    }

    /// Creates another event of the same input, with its own share of the receipt.
    pub fn derive<U>(&self, value: U) -> Event<U> {
        Event { value, meta: Arc::clone(&self.meta), receipt: self.receipt.share() }
    }

    /// Joins several events into one, with all their values, the metadata of the first and the
    /// receipts of all.
    pub(crate) fn join(members: Vec<Self>) -> Event<Vec<T>> {
        let meta = members.first().map(|first| Arc::clone(&first.meta)).unwrap_or_default();
        let (values, receipts): (Vec<_>, Vec<_>) =
            members.into_iter().map(|member| (member.value, member.receipt)).unzip();
        Event { value: values, meta, receipt: Receipt::join(receipts) }
    }
}

impl Event<()> {
    /// Gives the event a value.
    pub fn with<T>(self, value: T) -> Event<T> {
        self.map(|()| value)
    }
}

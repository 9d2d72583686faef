//! What can be found wrong, and how a finding is named.

use std::fmt;

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) text: String,
}

/// The promises that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Invariant {
    /// I1: every request is answered.
    NoLoss,
    /// I2: for a reader of committed records, every request is answered once.
    ExactlyOnce,
    /// I3: no request is answered twice but those that were in flight at a fault.
    BoundedDuplicates,
    /// I4: the first answers to a key's requests come in the order of the requests.
    KeyOrder,
    /// I5: no offset is committed before its request is answered, none is taken back, and all are in the end.
    Commits,
    /// I6: an answer has the value, key, partition and headers that belong to its request.
    Identity,
    /// I7: something is answered, as long as anything is to be.
    Progress,
    /// I8: memory, file descriptors and threads do not grow.
    Flat,
    /// I10: a worker ends in time, with an exit code that is documented, and says why.
    Exit,
    /// I11: no transaction stays open for longer than its timeout.
    Transactions,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLoss => "I1 no loss",
            Self::ExactlyOnce => "I2 exactly once",
            Self::BoundedDuplicates => "I3 bounded duplicates",
            Self::KeyOrder => "I4 order by key",
            Self::Commits => "I5 commits",
            Self::Identity => "I6 request_format",
            Self::Progress => "I7 progress",
            Self::Flat => "I8 flat",
            Self::Exit => "I10 exit",
            Self::Transactions => "I11 transactions",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

impl std::error::Error for Violation {}

impl Invariant {
    pub(crate) fn broken(self, text: impl Into<String>) -> Violation {
        Violation { invariant: self, text: text.into() }
    }
}

/// A lie about what was read: a check that does not notice is no check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tamper {
    /// The hundredth reply was never there (I1, and I5: its offset is committed)
    Drop,
    /// The hundredth reply was there twice (I2, I3)
    Duplicate,
    /// Two replies of one key changed places (I4)
    Swap,
    /// A reply has the value of another request (I6)
    Value,
    /// A reply lies in another partition (I6)
    Partition,
    /// Committed offsets are higher than they are (I5)
    Ahead,
    /// Committed offsets become lower than they were (I5)
    Back,
    /// From the hundredth reply on nothing is read, and no commit (I7)
    Stall,
    /// Vital signs grow (I8)
    Grow,
    /// Exit codes are one higher (I10)
    Exit,
    /// A transaction is said to be open for long (I11)
    Transaction,
}

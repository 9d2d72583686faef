//! The invariants that the suite checks, and their violations.

use std::fmt;

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) text: String,
}

/// The promises of Forebay that the suite checks; docs/reliability.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Invariant {
    /// I1: every request is answered.
    NoLoss,
    /// I2: for a reader of committed records, every request is answered once.
    ExactlyOnce,
    /// I3: only requests that were in flight or uncommitted at a fault are answered twice.
    BoundedDuplicates,
    /// I4: the first answers to a key's requests come in the order of the requests.
    KeyOrder,
    /// I5: no offset is committed before its request is answered, no commit is taken back, and in
    /// the end all offsets are committed.
    Commits,
    /// I6: an answer has the value, key, partition and headers that belong to its request.
    Identity,
    /// I7: a partition with open requests gets answers.
    Progress,
    /// I8: memory, file descriptors and threads do not grow.
    Flat,
    /// I10: a worker ends in time with a documented exit code and, after a failure, with the reason
    /// in its log.
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
            Self::Identity => "I6 identity",
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

/// A falsification of the data that the suite reads, to show that the check of an invariant fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tamper {
    /// Hides the hundredth reply (I1, and I5 because its offset is committed)
    Drop,
    /// Reads the hundredth reply twice (I2, I3)
    Duplicate,
    /// Swaps two replies of one key (I4)
    Swap,
    /// Gives a reply the value of another request (I6)
    Value,
    /// Moves a reply to another partition (I6)
    Partition,
    /// Raises the committed offsets (I5)
    Ahead,
    /// Lowers the committed offsets during the run (I5)
    Back,
    /// Hides all replies from the hundredth on, and all commits (I7)
    Stall,
    /// Adds open files to each sample of a process (I8)
    Grow,
    /// Raises exit codes by one (I10)
    Exit,
    /// Reports a transaction that stays open (I11)
    Transaction,
}

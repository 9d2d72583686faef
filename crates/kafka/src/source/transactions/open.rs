//! `Open`: an open transaction.

use std::sync::Arc;

use tokio::time::Instant;

use crate::source::assignment::{Assignment, Committable};
use crate::source::staged::Output;

pub(super) struct Open {
    pub(super) since: Instant,
    /// The positions to commit.
    pub(super) parts: Vec<Part>,
    /// The replies that were produced, in this order: to produce them again, and to identify one
    /// that could not be written.
    pub(super) replies: Vec<StagedReply>,
    /// Size of the requests and their replies.
    pub(super) bytes: usize,
}

/// An assignment in a transaction, and its position to commit.
pub(super) struct Part {
    pub(super) assignment: Arc<Assignment>,
    pub(super) position: i64,
}

/// A reply, with the partition and offset of its request.
pub(super) struct StagedReply {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) output: Output,
}

impl Open {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), parts: Vec::new(), replies: Vec::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, assignment: Arc<Assignment>, ready: Committable) {
        let Committable { position, bytes, outputs } = ready;
        let partition = assignment.partition;
        let replies = outputs.into_iter();
        self.replies.extend(replies.map(|(offset, output)| StagedReply {
            partition,
            offset,
            output,
        }));
        self.bytes += bytes;
        match self.parts.iter_mut().find(|part| Arc::ptr_eq(&part.assignment, &assignment)) {
            Some(part) => part.position = position,
            None => self.parts.push(Part { assignment, position }),
        }
    }

    /// Whether an assignment in this transaction has ended, so that it must not be committed.
    pub(super) fn is_void(&self) -> bool {
        self.parts.iter().any(|part| part.assignment.is_fenced())
    }
}

//! `Job`: what the poll thread and the workers of one source's transactions share.

use std::sync::Arc;
use std::time::Duration;

use forebay_stream::{Failure, Origin};
use parking_lot::{Condvar, Mutex};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use tokio::time::Instant;

use super::open::{Open, StagedReply};
use super::refusals::Refusals;
use super::state::State;
use crate::Error;
use crate::sink::ReplyKind;
use crate::source::core::Core;
use crate::source::group::Group;

pub(super) struct Job {
    pub(super) core: Arc<Core>,
    /// The transactional id.
    pub(super) id: String,
    pub(super) client: ClientConfig,
    /// The `batch.size` that fits the first sink's topic.
    pub(super) batch_size: Option<String>,
    pub(super) commit_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) consumer: Mutex<Option<Arc<BaseConsumer<Group>>>>,
    pub(super) state: Mutex<State>,
    /// Notified when the last worker has ended.
    pub(super) ended: Condvar,
    pub(super) refusals: Refusals,
    /// The topic of a sink that did not exist any more when the last transaction failed.
    pub(super) gone: Mutex<Option<Arc<str>>>,
    /// When the first transaction failed since the last one was committed, and its first request.
    pub(super) failing: Mutex<Option<(Instant, Origin)>>,
}

impl Job {
    pub(super) fn topic(&self) -> String {
        self.core.topic.to_string()
    }

    /// Returns the settings of the producer.
    pub(super) fn producer_config(&self) -> ClientConfig {
        let mut client = self.client.clone();
        if let Some(size) = &self.batch_size {
            client.set("batch.size", size);
        }
        client
    }

    /// Returns the consumer's membership, with which offsets are committed. `None` if the source
    /// has ended.
    pub(super) fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.lock().clone()?.group_metadata()
    }

    /// Voids everything in flight: later outcomes and replies are dropped, and the records are read
    /// again.
    pub(super) fn void(&self) {
        self.state.lock().fail();
        self.core.ledger.revoke(&self.core.ledger.assigned());
    }

    /// Notes that a transaction failed, or that no producer can be created to begin another one. Ends
    /// the source if no transaction has been committed for too long.
    pub(super) fn note_failure(&self, open: Option<&Open>) {
        let first = open.and_then(|open| open.replies.first());
        let mut failing = self.failing.lock();
        if let Some((since, origin)) = &*failing {
            if let Some(timeout) = self.core.stuck_timeout.filter(|most| since.elapsed() >= *most) {
                let state = "the transactions with its reply keep failing, see the log".to_owned();
                self.core.stuck(origin.clone(), state, timeout);
            }
        } else if let Some(StagedReply { partition, offset, .. }) = first {
            *failing = Some((Instant::now(), self.core.origin(*partition, *offset)));
        }
    }

    /// Notes that the brokers refused a reply. If the reply is a result, the next result for its
    /// request fails with `failure`, which the pipeline handles like any other failure. If the
    /// reply is an error reply or a dead letter, nothing can answer its request, and the source
    /// ends.
    pub(super) fn refused(&self, reply: &StagedReply, failure: Failure) {
        let StagedReply { partition, offset, output } = reply;
        if output.reply.kind == ReplyKind::Result {
            self.refusals.add(*partition, *offset, failure);
            return;
        }
        let origin = self.core.origin(*partition, *offset);
        self.core.fail(Error::Unanswered { origin, failure: Box::new(failure) });
    }
}

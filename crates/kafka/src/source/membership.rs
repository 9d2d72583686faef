//! `Membership`: whether the group gives this member partitions, and why not.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::watch;

/// Number of statistics, which come every second, for which a member waits in a join before it
/// counts as ready. A join that the group refuses ends at once.
const WAITING: u32 = 5;

/// The state of a membership. A refusal is one log line, although the member tries again every two
/// seconds.
#[derive(Debug)]
pub(super) struct Membership {
    topic: Arc<str>,
    group: String,
    // The `partition.assignment.strategy`; `None` if the brokers assign the partitions.
    strategy: Option<String>,
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the group refused the last join, or why the topic cannot be read.
    refusal: Option<RDKafkaErrorCode>,
    /// Number of statistics in a row that show a join which is not answered yet.
    waiting: u32,
}

impl Membership {
    /// `strategy` is the member's `partition.assignment.strategy`, `None` if the brokers assign the
    /// partitions.
    pub(super) fn new(topic: Arc<str>, group: String, strategy: Option<String>) -> Self {
        Self { topic, group, strategy, state: Mutex::default(), ready: watch::Sender::new(false) }
    }

    /// Returns a value that becomes `true` once the group has assigned partitions to the member,
    /// be it none, or lets it wait for others.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Notes that the group has answered a join with an assignment.
    pub(super) fn assigned(&self) {
        *self.state.lock() = State::default();
        self.ready.send_replace(true);
    }

    /// Whether [`update`](Self::update) has something to find out.
    pub(super) fn needs_update(&self) -> bool {
        !*self.ready.borrow()
    }

    /// Handles the consumer's statistics. A group may answer a join late, for example because it
    /// waits for members that are draining. Such a member is ready too: nothing is wrong.
    pub(super) fn update(&self, statistics: &Statistics) {
        let Some(group) = &statistics.cgrp else { return };
        let mut state = self.state.lock();
        // If the brokers assign the partitions, a member that gets none hears nothing, and there is
        // no join to wait for.
        let joins = self.strategy.is_none()
            || matches!(group.join_state.as_str(), "wait-join" | "wait-sync");
        let waits = group.state == "up" && joins && state.refusal.is_none();
        state.waiting = if waits { state.waiting + 1 } else { 0 };
        if state.waiting >= WAITING {
            drop(state);
            self.ready.send_replace(true);
        }
    }

    /// Handles an error of the consumer. Returns `false` if it does not concern the membership.
    pub(super) fn refused(&self, code: RDKafkaErrorCode) -> bool {
        let Self { topic, group, strategy, .. } = self;
        let reason = match code {
            RDKafkaErrorCode::InconsistentGroupProtocol => format!(
                "its other members do not use {}, as this one does; probably a member with another \
                 `partition.assignment.strategy` is in the group, such as a `kcat -G`; stop it, or set its strategy \
                 among the options",
                strategy.as_deref().unwrap_or("the protocol of KIP-848")
            ),
            RDKafkaErrorCode::InvalidSessionTimeout => {
                "the brokers do not allow this `session.timeout.ms`, see their \
                 `group.min.session.timeout.ms` and `group.max.session.timeout.ms`"
                    .to_owned()
            }
            RDKafkaErrorCode::GroupMaxSizeReached => {
                "it has as many members as the brokers allow, see their `group.max.size`".to_owned()
            }
            RDKafkaErrorCode::UnsupportedAssignor => {
                "the brokers do not have this `group.remote.assignor`; leave it out, or name one of theirs, such as `uniform`"
                    .to_owned()
            }
            RDKafkaErrorCode::UnreleasedInstanceId => {
                "another member has the same `group.instance.id`; give each member its own".to_owned()
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                if self.is_news(code) {
                    tracing::error!(%topic, "the topic that the source reads does not exist any more; the source waits until it is created again");
                }
                return true;
            }
            // Follows the deletion of a topic, once for each of its partitions.
            RDKafkaErrorCode::UnknownPartition => return true,
            _ => return false,
        };
        if self.is_news(code) {
            tracing::error!(%group, %topic, "the group refuses this member: {reason}");
        }
        true
    }

    /// Notes a refusal, and returns whether the last one had another reason.
    fn is_news(&self, code: RDKafkaErrorCode) -> bool {
        let mut state = self.state.lock();
        state.waiting = 0;
        state.refusal.replace(code) != Some(code)
    }
}

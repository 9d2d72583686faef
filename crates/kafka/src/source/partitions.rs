//! `Partitions`: which partitions are paused by themselves, while the others are read on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use tokio::time::Instant;

use super::assignment::Assignment;
use super::group::Group;
use super::offsets::Head;
use super::shared::{Shared, after};

/// Looks after each partition by itself: one that runs too far ahead of its oldest unanswered record is paused until
/// that is answered, one that has halted for as long as it is assigned, and a record that stays without an answer is
/// reported.
pub(super) struct Partitions {
    max_uncommitted: usize,
    stuck_after: Duration,
    // Those that run ahead.
    ahead: Vec<Arc<Assignment>>,
    // The records that have been reported, and when they are again.
    stuck: BTreeMap<i32, (i64, Instant)>,
    next_report: Instant,
}

impl Partitions {
    pub(super) fn new(max_uncommitted: NonZeroUsize, stuck_after: Duration) -> Self {
        Self {
            max_uncommitted: max_uncommitted.get(),
            stuck_after,
            ahead: Vec::new(),
            stuck: BTreeMap::new(),
            next_report: Instant::now(),
        }
    }

    /// A record of a partition was read, which may be its last for now.
    pub(super) fn read(
        &mut self,
        consumer: &BaseConsumer<Group>,
        assignment: &Arc<Assignment>,
    ) -> KafkaResult<()> {
        if assignment.ahead() < self.max_uncommitted || !assignment.flows() {
            return Ok(());
        }
        assignment.stop(true);
        tracing::debug!(
            partition = assignment.partition,
            "too far ahead of its oldest unanswered record"
        );
        self.ahead.push(Arc::clone(assignment));
        consumer.context().set_flowing(consumer, &[assignment.partition], false)
    }

    /// Lets partitions go on whose oldest record has been answered, stops those that have halted, and reports.
    pub(super) fn look(
        &mut self,
        consumer: &BaseConsumer<Group>,
        shared: &Shared,
    ) -> KafkaResult<()> {
        let group = consumer.context();
        let most = self.max_uncommitted / 2;
        for assignment in self.ahead.extract_if(.., |one| one.ahead() <= most || one.is_fenced()) {
            assignment.stop(false);
            if assignment.flows() {
                group.set_flowing(consumer, &[assignment.partition], true)?;
            }
        }
        if shared.take_halted() {
            let halted = shared.assignments().into_iter().filter(|one| !one.is_open());
            let halted: Vec<_> = halted.map(|one| one.partition).collect();
            group.set_flowing(consumer, &halted, false)?;
        }
        if Instant::now() >= self.next_report {
            self.next_report = after(Duration::from_secs(1).min(self.stuck_after));
            self.report(shared);
        }
        Ok(())
    }

    /// Says which records have been in flight for long, and says it again after as long.
    fn report(&mut self, shared: &Shared) {
        for assignment in shared.assignments() {
            let partition = assignment.partition;
            let Some(Head { offset, since, watch }) = assignment.oldest() else { continue };
            let stuck_for = since.elapsed();
            let again = match self.stuck.get(&partition) {
                Some((reported, at)) if *reported == offset => Instant::now() >= *at,
                _ => true,
            };
            if stuck_for >= self.stuck_after && again {
                self.stuck.insert(partition, (offset, after(self.stuck_after)));
                let (origin, behind) = (shared.origin(partition, offset), assignment.ahead() - 1);
                let stage = watch.map_or(Some("the source".into()), |watch| watch.stage());
                let stage = stage.as_deref().unwrap_or("none, it failed or was abandoned");
                tracing::warn!(%origin, ?stuck_for, %stage, behind, "no answer yet, nothing behind it is committed");
            }
        }
    }
}

//! `Partitions`: pauses single partitions while reading from the others goes on.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use tokio::time::Instant;

use super::assignment::Assignment;
use super::core::{Core, after};
use super::group::Group;
use super::offsets::Head;

/// Pauses and resumes partitions one by one, and reports records that stay in flight for too long.
///
/// The uncommitted records of a partition are its oldest pending record and all records that were
/// read after it. A partition with `max_uncommitted` of them is paused until at most half as many
/// are left. A partition that has halted (see [`OnUnanswered`](crate::OnUnanswered)) stays
/// paused until it is revoked.
pub(super) struct Partitions {
    max_uncommitted: usize,
    stuck_after: Duration,
    // Assignments that are paused because they reached `max_uncommitted`.
    throttled: Vec<Arc<Assignment>>,
    // For each partition, the offset of the record that was last reported as stuck, and when to
    // report it again.
    stuck: BTreeMap<i32, (i64, Instant)>,
    next_report: Instant,
    // The partition and the offset of the oldest record in flight, and since when it is the oldest.
    oldest: Option<(i32, i64, Instant)>,
}

impl Partitions {
    pub(super) fn new(max_uncommitted: NonZeroUsize, stuck_after: Duration) -> Self {
        Self {
            max_uncommitted: max_uncommitted.get(),
            stuck_after,
            throttled: Vec::new(),
            stuck: BTreeMap::new(),
            next_report: Instant::now(),
            oldest: None,
        }
    }

    /// Pauses the partition of a record that was just read, if the partition has reached
    /// `max_uncommitted`.
    pub(super) fn read(
        &mut self,
        consumer: &BaseConsumer<Group>,
        assignment: &Arc<Assignment>,
    ) -> KafkaResult<()> {
        if assignment.uncommitted() < self.max_uncommitted || !assignment.may_fetch() {
            return Ok(());
        }
        assignment.set_throttled(true);
        tracing::debug!(
            partition = assignment.partition,
            "partition paused, because max_uncommitted records are not committed"
        );
        self.throttled.push(Arc::clone(assignment));
        consumer.context().set_fetching(consumer, &[assignment.partition], false)
    }

    /// Resumes partitions that have caught up with half of `max_uncommitted`, pauses those that
    /// have halted, and reports stuck records. Unless the source is `over`, which means that it
    /// hands out no more records, a record that is stuck for too long ends it.
    pub(super) fn update(
        &mut self,
        consumer: &BaseConsumer<Group>,
        core: &Core,
        over: bool,
    ) -> KafkaResult<()> {
        let group = consumer.context();
        let most = self.max_uncommitted / 2;
        for assignment in
            self.throttled.extract_if(.., |one| one.uncommitted() <= most || one.is_fenced())
        {
            assignment.set_throttled(false);
            if assignment.may_fetch() {
                group.set_fetching(consumer, &[assignment.partition], true)?;
            }
        }
        if core.take_halted() {
            let halted = core.ledger.assignments().into_iter().filter(|one| !one.is_open());
            let halted: Vec<_> = halted.map(|one| one.partition).collect();
            group.set_fetching(consumer, &halted, false)?;
        }
        if Instant::now() >= self.next_report {
            let interval = Duration::from_secs(1).min(self.stuck_after);
            self.next_report =
                after(core.stuck_timeout.map_or(interval, |most| interval.min(most)));
            self.report(core);
            if let Some(timeout) = core.stuck_timeout.filter(|_| !over) {
                self.check_progress(core, timeout);
            }
        }
        Ok(())
    }

    /// Logs the oldest pending record of each partition if it was read at least `stuck_after` ago,
    /// and logs it again at that interval while it stays pending.
    fn report(&mut self, core: &Core) {
        for assignment in core.ledger.assignments() {
            let partition = assignment.partition;
            let Some(Head { offset, since, watch }) = assignment.oldest() else { continue };
            let stuck_for = since.elapsed();
            let again = match self.stuck.get(&partition) {
                Some((reported, at)) if *reported == offset => Instant::now() >= *at,
                _ => true,
            };
            if stuck_for >= self.stuck_after && again {
                self.stuck.insert(partition, (offset, after(self.stuck_after)));
                let origin = core.origin(partition, offset);
                let behind = assignment.uncommitted() - 1;
                let stage = watch.map_or(Some("the source".into()), |watch| watch.stage());
                let stage = stage.as_deref().unwrap_or("none, it failed or was abandoned");
                tracing::warn!(%origin, ?stuck_for, %stage, behind, "this record has no answer yet, and nothing behind it is committed");
            }
        }
    }

    /// Ends the source if the oldest record in flight has been the oldest for too long.
    ///
    /// A record that waits behind others is not stuck, so its time begins when it becomes the
    /// oldest. If a single partition is stuck, its first record becomes the oldest once those that
    /// were read before it have their answers.
    fn check_progress(&mut self, core: &Core, timeout: Duration) {
        let Some((partition, Head { offset, watch, .. })) = core.ledger.oldest() else {
            self.oldest = None;
            return;
        };
        let since = match self.oldest {
            Some((of, oldest, since)) if (of, oldest) == (partition, offset) => since,
            _ => {
                self.oldest = Some((partition, offset, Instant::now()));
                return;
            }
        };
        if since.elapsed() >= timeout {
            let state = match watch.map(|watch| watch.stage()) {
                None => "it waits in the source".to_owned(),
                Some(Some(stage)) => format!("it is in `{stage}`"),
                Some(None) => "it is in no step, so it may have failed or been dropped".to_owned(),
            };
            core.stuck(core.origin(partition, offset), state, timeout);
        }
    }
}

//! `CommittedOffsets`: the offsets that a source has committed, as events.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use forebay_stream::{Event, Meta, Origin};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// An offset that a source has committed, after the brokers have confirmed the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The consumer group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: i32,
    /// The offset of the next record to be read: all records before it are answered.
    pub offset: i64,
}

/// The offsets that a source commits, as events without an outcome: nothing waits for their
/// receipts. [`Source::committed`](crate::Source::committed) returns it.
///
/// - **Emits** an offset once the brokers have confirmed its commit. Within an assignment of a
///   partition, each offset is larger than the one before. The key of an event is the topic and the
///   partition as Kafka prints them, such as `requests-0`.
/// - **Holds** at most one offset of each partition: one that is not taken before the next commit
///   is replaced. So a commit never waits for its event.
/// - **Completes** after the last commit, when the source is
///   [closed](crate::SourceHandle::close) or has failed. Until then it waits.
pub struct CommittedOffsets {
    group: Arc<str>,
    topic: Arc<str>,
    confirmed: Arc<Confirmed>,
}

impl CommittedOffsets {
    pub(super) fn new(group: &str, topic: &Arc<str>, confirmed: Arc<Confirmed>) -> Self {
        confirmed.listen();
        Self { group: group.into(), topic: Arc::clone(topic), confirmed }
    }
}

impl forebay_stream::Source<CommittedOffset> for CommittedOffsets {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Event<CommittedOffset>>, Infallible> {
        let Some((partition, offset)) = self.confirmed.next().await else { return Ok(None) };
        let Self { group, topic, .. } = self;
        let origin = Origin {
            source: format!("committed {topic}").into(),
            partition: Some(partition),
            position: offset.unsigned_abs(),
        };
        let key = Some(format!("{topic}-{partition}").into());
        let meta = Arc::new(Meta { key, origin, ..Meta::default() });
        let (group, topic) = (Arc::clone(group), Arc::clone(topic));
        let value = CommittedOffset { group, topic, partition, offset };
        Ok(Some(Event { meta, ..Event::detached(value) }))
    }
}

impl fmt::Debug for CommittedOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, topic, .. } = self;
        f.debug_struct("CommittedOffsets")
            .field("group", group)
            .field("topic", topic)
            .finish_non_exhaustive()
    }
}

/// The confirmed offsets that wait to be taken as events. The threads that commit add them and
/// never wait.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    // Whether the events are taken at all.
    listening: bool,
    // The last confirmed offset of each partition since the group assigned it. A commit may be
    // repeated, so an offset can be confirmed twice.
    last: BTreeMap<i32, i64>,
    // At most one offset of each partition, in the order in which the partitions began to wait.
    waiting: VecDeque<(i32, i64)>,
    ended: bool,
}

impl Confirmed {
    fn listen(&self) {
        self.state.lock().listening = true;
    }

    /// Notes that the group has assigned a partition. Its offsets may begin anywhere, for example
    /// because the topic was created again.
    pub(super) fn assigned(&self, partition: i32) {
        self.state.lock().last.remove(&partition);
    }

    /// Notes that the brokers have confirmed the commit of an offset.
    pub(super) fn add(&self, partition: i32, offset: i64) {
        let mut state = self.state.lock();
        let State { listening: true, last, waiting, ended: false } = &mut *state else { return };
        if last.get(&partition).is_some_and(|last| *last >= offset) {
            return;
        }
        last.insert(partition, offset);
        match waiting.iter_mut().find(|(of, _)| *of == partition) {
            Some((_, waiting)) => *waiting = offset,
            None => waiting.push_back((partition, offset)),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Ends the events after those that wait. There are no more commits.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_waiters();
    }

    /// Waits for the next offset, and returns it with its partition; `None` after the end.
    async fn next(&self) -> Option<(i32, i64)> {
        loop {
            // Created before the look, so that neither an offset nor the end is missed.
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if let Some(next) = state.waiting.pop_front() {
                    return Some(next);
                }
                if state.ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::Confirmed;

    const PARTITIONS: i32 = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Assign(i32),
        Confirm(i32, i64),
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let partition = 0..PARTITIONS;
        let step = prop_oneof![
            1 => partition.clone().prop_map(Step::Assign),
            8 => (partition, 0_i64..20).prop_map(|(of, offset)| Step::Confirm(of, offset)),
            4 => Just(Step::Take),
        ];
        prop::collection::vec(step, 0..100)
    }

    /// Returns the next offset if there is one.
    fn take(confirmed: &Confirmed) -> Poll<Option<(i32, i64)>> {
        pin!(confirmed.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    proptest! {
        #[test]
        fn offsets_increase_within_an_assignment_and_the_newest_is_never_lost(steps in steps()) {
            let confirmed = Confirmed::default();
            confirmed.listen();
            // The newest offset of each partition since its assignment, and the last one taken.
            let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
            let mut taken: BTreeMap<i32, i64> = BTreeMap::new();
            let mut waiting: BTreeMap<i32, i64> = BTreeMap::new();
            let mut check = |(partition, offset): (i32, i64), waiting: &mut BTreeMap<i32, i64>| {
                prop_assert_eq!(waiting.remove(&partition), Some(offset), "the newest one");
                Ok(taken.insert(partition, offset))
            };
            for step in steps {
                match step {
                    Step::Assign(partition) => {
                        confirmed.assigned(partition);
                        newest.remove(&partition);
                    }
                    Step::Confirm(partition, offset) => {
                        confirmed.add(partition, offset);
                        if newest.get(&partition).is_none_or(|newest| offset > *newest) {
                            newest.insert(partition, offset);
                            waiting.insert(partition, offset);
                        }
                    }
                    Step::Take => match take(&confirmed) {
                        Poll::Ready(Some(next)) => _ = check(next, &mut waiting)?,
                        Poll::Pending => prop_assert!(waiting.is_empty()),
                        Poll::Ready(None) => prop_assert!(false, "it has not ended"),
                    },
                }
                let length = confirmed.state.lock().waiting.len();
                prop_assert_eq!(length, waiting.len(), "one offset of each partition");
            }
            confirmed.end();
            confirmed.add(0, 100);
            while let Poll::Ready(Some(next)) = take(&confirmed) {
                check(next, &mut waiting)?;
            }
            prop_assert!(waiting.is_empty() && take(&confirmed) == Poll::Ready(None));
        }

        #[test]
        fn offsets_that_are_taken_at_once_increase(steps in steps()) {
            let confirmed = Confirmed::default();
            confirmed.listen();
            let mut last: BTreeMap<i32, i64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Assign(partition) => {
                        confirmed.assigned(partition);
                        last.remove(&partition);
                    }
                    Step::Confirm(partition, offset) => confirmed.add(partition, offset),
                    Step::Take => {}
                }
                while let Poll::Ready(Some((partition, offset))) = take(&confirmed) {
                    let before = last.insert(partition, offset);
                    prop_assert!(before.is_none_or(|before| before < offset), "{:?}", before);
                }
            }
        }
    }

    #[tokio::test]
    async fn the_end_and_an_offset_wake_a_stream_that_waits() {
        let confirmed = Arc::new(Confirmed::default());
        confirmed.listen();
        let taker = Arc::clone(&confirmed);
        let taker = tokio::spawn(async move { [taker.next().await, taker.next().await] });
        tokio::task::yield_now().await;
        confirmed.add(1, 7);
        tokio::task::yield_now().await;
        confirmed.end();
        assert_eq!(taker.await.unwrap(), [Some((1, 7)), None]);
    }

    #[test]
    fn nothing_is_kept_if_nobody_asked_for_the_events() {
        let confirmed = Confirmed::default();
        confirmed.add(0, 1);
        assert!(confirmed.state.lock().waiting.is_empty());
    }
}

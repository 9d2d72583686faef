//! `Offsets`: finds the offset of a partition that may be committed while records are settled in
//! any order.

use forebay_stream::Watch;
use tokio::time::Instant;

/// The pending offsets of one partition.
///
/// A doubly linked list in offset order whose nodes live in one `Vec` with reused slots: inserting
/// and removing are O(1), and memory is bounded by the largest number of offsets that were ever
/// pending at once. Only offsets that were read are tracked, so the gaps that compaction and
/// transactions leave need no handling. Modelled on Jeffail's `checkpoint`.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    nodes: Vec<Node>,
    free: Vec<Slot>,
    // The smallest and the largest pending offset.
    ends: Option<(Slot, Slot)>,
    // One past the largest offset that was inserted.
    next: Option<i64>,
    // Number of offsets that were inserted.
    seen: u64,
}

/// Identifies a pending offset until it is removed; then the slot is reused.
pub(super) type Slot = usize;

/// The smallest pending offset. No offset behind it can be committed.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) offset: i64,
    /// When the record was read.
    pub(super) since: Instant,
    /// Tells the stage that the record is in; `None` if it was not handed out.
    pub(super) watch: Option<Watch>,
}

#[derive(Debug)]
struct Node {
    offset: i64,
    // Number of offsets that were inserted before this one.
    number: u64,
    since: Instant,
    watch: Option<Watch>,
    before: Option<Slot>,
    after: Option<Slot>,
}

impl Offsets {
    /// Whether `offset` or a larger one was read before.
    pub(super) fn has_passed(&self, offset: i64) -> bool {
        self.next.is_some_and(|next| offset < next)
    }

    /// Adds a pending offset, which must be larger than all before it.
    pub(super) fn insert(&mut self, offset: i64, since: Instant) -> Slot {
        let last = self.ends.map(|(_, last)| last);
        let node =
            Node { offset, number: self.seen, since, watch: None, before: last, after: None };
        let slot = self.free.pop().unwrap_or(self.nodes.len());
        if slot == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[slot] = node;
        }
        if let Some(last) = last {
            self.nodes[last].after = Some(slot);
        }
        self.ends = Some((self.ends.map_or(slot, |(first, _)| first), slot));
        self.next = Some(offset + 1);
        self.seen += 1;
        slot
    }

    /// Attaches the watch of a record that was handed out, which tells the stage that the record is
    /// in.
    pub(super) fn watch(&mut self, slot: Slot, watch: Watch) {
        self.nodes[slot].watch = Some(watch);
    }

    /// Removes a pending offset, whose record is done. Each slot is removed at most once.
    pub(super) fn remove(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot];
        let before = node.before;
        let after = node.after;
        node.watch = None;
        if let Some(before) = before {
            self.nodes[before].after = after;
        }
        if let Some(after) = after {
            self.nodes[after].before = before;
        }
        self.ends = self.ends.and_then(|(first, last)| {
            let first = if first == slot { after? } else { first };
            let last = if last == slot { before? } else { last };
            Some((first, last))
        });
        self.free.push(slot);
    }

    /// Returns the position: the smallest pending offset, or one past the last offset if none is
    /// pending. `None` before the first record.
    pub(super) fn position(&self) -> Option<i64> {
        self.oldest().map(|head| head.offset).or(self.next)
    }

    /// Returns the smallest pending offset.
    pub(super) fn oldest(&self) -> Option<Head> {
        let (first, _) = self.ends?;
        let Node { offset, since, ref watch, .. } = self.nodes[first];
        Some(Head { offset, since, watch: watch.clone() })
    }

    /// Returns the number of inserted offsets that are less than the [position](Self::position).
    pub(super) fn passed(&self) -> u64 {
        self.ends.map_or(self.seen, |(first, _)| self.nodes[first].number)
    }

    /// Returns the number of offsets that were inserted.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the number of pending offsets.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::Offsets;

    #[derive(Clone, Debug)]
    enum Step {
        Insert { gap: u8 },
        Remove(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u8..4).prop_map(|gap| Step::Insert { gap }),
            any::<prop::sample::Index>().prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn the_smallest_pending_offset_is_the_position(start in 0_i64..1000, steps in steps()) {
            let mut offsets = Offsets::default();
            let mut inserted = Vec::new();
            let mut pending = BTreeSet::new();
            let mut next = start;
            let mut most = 0;
            let mut all = Vec::new();
            prop_assert_eq!(offsets.position(), None);
            for step in steps {
                match step {
                    Step::Insert { gap } => {
                        let offset = next + i64::from(gap);
                        next = offset + 1;
                        inserted.push((offset, offsets.insert(offset, Instant::now())));
                        pending.insert(offset);
                        all.push(offset);
                    }
                    Step::Remove(_) if inserted.is_empty() => {}
                    Step::Remove(which) => {
                        let (offset, slot) = inserted.swap_remove(which.index(inserted.len()));
                        offsets.remove(slot);
                        pending.remove(&offset);
                    }
                }
                most = most.max(pending.len());
                let seen = next > start;
                let expected = pending.first().copied().or(seen.then_some(next));
                prop_assert_eq!(offsets.position(), expected);
                prop_assert_eq!(offsets.oldest().map(|head| head.offset), pending.first().copied());
                prop_assert_eq!(offsets.len(), pending.len());
                let passed = all.iter().filter(|offset| Some(**offset) < expected).count();
                prop_assert_eq!(offsets.passed(), passed as u64);
                prop_assert_eq!(offsets.seen(), all.len() as u64);
                prop_assert!(offsets.nodes.len() <= most, "memory is bounded by the pending offsets");
            }
        }
    }
}

//! `Offsets`: which offset of a partition may be committed, when work ends in any order.

use forebay_stream::Watch;
use tokio::time::Instant;

/// The offsets of one partition that are read and not yet resolved.
///
/// A doubly linked list in offset order, its nodes in one `Vec` whose free places are used again: opening and resolving
/// are O(1), and the memory is that of the most offsets ever open at once. Only offsets that were seen are known, so
/// the gaps that compaction and transactions leave need no care. After Jeffail's `checkpoint`.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    nodes: Vec<Node>,
    free: Vec<Slot>,
    // The smallest and the largest open offset.
    ends: Option<(Slot, Slot)>,
    // One past the largest offset seen.
    next: Option<i64>,
    seen: u64,
}

/// Names an open offset until it is resolved; after that the slot may name another.
pub(super) type Slot = usize;

/// An offset that nothing before it holds up.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) offset: i64,
    /// When it was read.
    pub(super) since: Instant,
    /// Sees where it is; none if it was not handed out.
    pub(super) watch: Option<Watch>,
}

#[derive(Debug)]
struct Node {
    offset: i64,
    // How many were seen before it.
    number: u64,
    since: Instant,
    watch: Option<Watch>,
    before: Option<Slot>,
    after: Option<Slot>,
}

impl Offsets {
    /// Whether `offset`, or a larger one, was read before.
    pub(super) fn has_passed(&self, offset: i64) -> bool {
        self.next.is_some_and(|next| offset < next)
    }

    /// Notes that `offset`, larger than any before it, has been read.
    pub(super) fn open(&mut self, offset: i64, since: Instant) -> Slot {
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

    /// An open offset is at work, and this sees where.
    pub(super) fn watch(&mut self, slot: Slot, watch: Watch) {
        self.nodes[slot].watch = Some(watch);
    }

    /// Notes that the work on an open offset is over. Each slot is resolved at most once.
    pub(super) fn resolve(&mut self, slot: Slot) {
        let node = &mut self.nodes[slot];
        let (before, after) = (node.before, node.after);
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

    /// What may be committed: the smallest open offset, else one past the last; `None` before the first.
    pub(super) fn position(&self) -> Option<i64> {
        self.oldest().map(|head| head.offset).or(self.next)
    }

    /// The smallest open offset.
    pub(super) fn oldest(&self) -> Option<Head> {
        let (first, _) = self.ends?;
        let Node { offset, since, ref watch, .. } = self.nodes[first];
        Some(Head { offset, since, watch: watch.clone() })
    }

    /// How many offsets have been seen that are less than the [position](Self::position).
    pub(super) fn passed(&self) -> u64 {
        self.ends.map_or(self.seen, |(first, _)| self.nodes[first].number)
    }

    /// How many offsets have been seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// How many offsets are open.
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
        Open { gap: u8 },
        Resolve(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u8..4).prop_map(|gap| Step::Open { gap }),
            any::<prop::sample::Index>().prop_map(Step::Resolve),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn only_the_smallest_unresolved_offset_is_committed(start in 0_i64..1000, steps in steps()) {
            let mut offsets = Offsets::default();
            let mut open = Vec::new();
            let mut unresolved = BTreeSet::new();
            let mut next = start;
            let mut most = 0;
            let mut all = Vec::new();
            prop_assert_eq!(offsets.position(), None);
            for step in steps {
                match step {
                    Step::Open { gap } => {
                        let offset = next + i64::from(gap);
                        next = offset + 1;
                        open.push((offset, offsets.open(offset, Instant::now())));
                        unresolved.insert(offset);
                        all.push(offset);
                    }
                    Step::Resolve(_) if open.is_empty() => {}
                    Step::Resolve(which) => {
                        let (offset, slot) = open.swap_remove(which.index(open.len()));
                        offsets.resolve(slot);
                        unresolved.remove(&offset);
                    }
                }
                most = most.max(unresolved.len());
                let seen = next > start;
                let expected = unresolved.first().copied().or(seen.then_some(next));
                prop_assert_eq!(offsets.position(), expected);
                prop_assert_eq!(offsets.oldest().map(|head| head.offset), unresolved.first().copied());
                prop_assert_eq!(offsets.len(), unresolved.len());
                let passed = all.iter().filter(|offset| Some(**offset) < expected).count();
                prop_assert_eq!(offsets.passed(), passed as u64);
                prop_assert_eq!(offsets.seen(), all.len() as u64);
                prop_assert!(offsets.nodes.len() <= most, "memory follows what is open");
            }
        }
    }
}

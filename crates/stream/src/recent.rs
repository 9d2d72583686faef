//! `Recent`: a map that knows which of its keys was put in least recently.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map whose values are in the order in which they were last put in. Every operation on a key
/// costs O(log n).
///
/// The map never evicts on its own: the caller must limit its size, with `len` and `pop_oldest`.
pub(crate) struct Recent<K, V> {
    // For each key, its position in `entries`. Invariant: each entry in `entries` is the one that
    // `places` names for its key.
    places: HashMap<K, u64>,
    entries: BTreeMap<u64, (K, V)>,
    next: u64,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(crate) fn new() -> Self {
        Self { places: HashMap::new(), entries: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Adds a value as the newest one; returns the value that the key had.
    pub(crate) fn put(&mut self, key: K, value: V) -> Option<V> {
        let place = self.next;
        self.next += 1;
        let before = self.places.insert(key.clone(), place);
        self.entries.insert(place, (key, value));
        Some(self.entries.remove(&before?)?.1)
    }

    /// Removes and returns the value that was put in least recently.
    pub(crate) fn pop_oldest(&mut self) -> Option<V> {
        let (_, (key, value)) = self.entries.pop_first()?;
        self.places.remove(&key);
        Some(value)
    }

    /// Removes and returns all values, the oldest first.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = V> + use<K, V> {
        self.places.clear();
        std::mem::take(&mut self.entries).into_values().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Recent;

    proptest! {
        #[test]
        fn the_map_agrees_with_a_list_of_keys_and_values(steps in prop::collection::vec(prop::option::of(0_u8..6), 0..60)) {
            let mut recent = Recent::new();
            let mut list: Vec<(u8, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                if let Some(key) = step {
                    let at = list.iter().position(|(known, _)| *known == key);
                    prop_assert_eq!(recent.contains(&key), at.is_some());
                    prop_assert_eq!(recent.put(key, number), at.map(|at| list.remove(at).1));
                    list.push((key, number));
                } else {
                    let oldest = (!list.is_empty()).then(|| list.remove(0).1);
                    prop_assert_eq!(recent.pop_oldest(), oldest);
                }
                prop_assert_eq!(recent.len(), list.len());
            }
            let rest: Vec<_> = list.into_iter().map(|(_, number)| number).collect();
            prop_assert_eq!(recent.take().collect::<Vec<_>>(), rest);
            prop_assert!(!recent.contains(&0));
        }
    }
}

//! `Progress`: tracks which dead letters of a partition have been replayed.
//!
//! A group's committed offset says that everything before it is done. A replay that selects letters
//! leaves others behind, so the offsets past it that are done are kept in the commit's metadata:
//! `replayed=2+3,5+1` means two that are left, three that are done, five that are left, and one
//! that is done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// Maximum size of the metadata in bytes. The brokers' default limit (`offset.metadata.max.bytes`)
/// is 4096.
const LARGEST: usize = 4_000;
const PREFIX: &str = "replayed=";

/// The offsets of a partition that are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// All offsets before it are done.
    position: i64,
    /// Ranges past the position that are done, from start to end. They touch neither each other nor
    /// the position.
    beyond: BTreeMap<i64, i64>,
}

impl Progress {
    pub(super) fn at(position: i64) -> Self {
        Self { position, beyond: BTreeMap::new() }
    }

    /// Decodes what was committed. Metadata of other programs, and invalid metadata, is ignored.
    pub(super) fn decode(position: i64, metadata: &[u8]) -> Self {
        let mut progress = Self::at(position);
        let text = std::str::from_utf8(metadata).ok();
        let Some(ranges) = text.and_then(|text| text.strip_prefix(PREFIX)) else { return progress };
        let mut end = position;
        for range in ranges.split(',') {
            let parsed = range.split_once('+').and_then(|(left, done)| {
                let left = left.parse::<u32>().ok()?;
                let done = done.parse::<u32>().ok()?;
                let start = end.checked_add(left.into())?;
                Some(start..start.checked_add(done.into())?)
            });
            let Some(range) = parsed else { return Self::at(position) };
            end = range.end;
            progress.add(range);
        }
        progress
    }

    /// Returns the offset and the metadata to commit, and the number of done offsets that the
    /// metadata cannot hold.
    pub(super) fn encode(&self) -> (i64, String, u64) {
        let mut metadata = String::new();
        let mut end = self.position;
        let mut forgotten = 0;
        for (&start, &stop) in &self.beyond {
            let left = start.abs_diff(end);
            let done = stop.abs_diff(start);
            let mut range = if metadata.is_empty() { PREFIX } else { "," }.to_owned();
            // Writing to a string cannot fail.
            write!(range, "{left}+{done}").ok();
            let fits = u32::try_from(left.max(done)).is_ok();
            if forgotten > 0 || !fits || metadata.len() + range.len() > LARGEST {
                forgotten += done;
                continue;
            }
            metadata.push_str(&range);
            end = stop;
        }
        (self.position, metadata, forgotten)
    }

    pub(super) fn position(&self) -> i64 {
        self.position
    }

    pub(super) fn has(&self, offset: i64) -> bool {
        offset < self.position
            || self.beyond.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }

    pub(super) fn add(&mut self, Range { mut start, mut end }: Range<i64>) {
        start = start.max(self.position);
        if start >= end {
            return;
        }
        // Merges the ranges that it overlaps or touches.
        if let Some((&before, &stop)) = self.beyond.range(..=start).next_back()
            && stop >= start
        {
            start = before;
        }
        while let Some((&next, &stop)) = self.beyond.range(start..=end).next() {
            self.beyond.remove(&next);
            end = end.max(stop);
        }
        if start == self.position {
            self.position = end;
        } else {
            self.beyond.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{LARGEST, Progress};

    #[test]
    fn the_metadata_lists_the_letters_that_are_left() {
        let mut progress = Progress::at(10);
        progress.add(12..15);
        progress.add(20..21);
        assert_eq!(progress.encode(), (10, "replayed=2+3,5+1".to_owned(), 0));
        progress.add(10..12);
        assert_eq!(progress.encode(), (15, "replayed=5+1".to_owned(), 0));
        progress.add(15..20);
        assert_eq!(progress.encode(), (21, String::new(), 0));
    }

    #[test]
    fn ranges_that_do_not_fit_are_forgotten_and_counted() {
        let mut progress = Progress::at(0);
        for offset in 1..5_000 {
            progress.add(2 * offset..2 * offset + 1);
        }
        let (position, metadata, forgotten) = progress.encode();
        assert!(metadata.len() <= LARGEST && forgotten > 0, "{forgotten}");
        let decoded = Progress::decode(position, metadata.as_bytes());
        let kept = (0..10_000).filter(|&offset| decoded.has(offset)).count();
        assert_eq!(kept as u64 + forgotten, 4_999);
        assert!((0..10_000).all(|offset| progress.has(offset) || !decoded.has(offset)));
    }

    proptest! {
        #[test]
        fn fuzz_progress_is_a_set_of_offsets(
            position in 0..50_i64, ranges in prop::collection::vec((0..100_i64, 0..9_i64), 0..30),
        ) {
            let mut progress = Progress::at(position);
            let mut model = (0..position).collect::<BTreeSet<_>>();
            for (start, length) in ranges {
                progress.add(start..start + length);
                model.extend(start..start + length);
            }
            for offset in 0..120 {
                prop_assert_eq!(progress.has(offset), model.contains(&offset), "{}", offset);
            }
            let (position, metadata, forgotten) = progress.encode();
            prop_assert_eq!(forgotten, 0);
            prop_assert!((0..position).all(|offset| model.contains(&offset)) && !model.contains(&position));
            prop_assert_eq!(Progress::decode(position, metadata.as_bytes()), progress);
        }

        #[test]
        fn fuzz_any_metadata_is_progress_or_none(
            position in 0..i64::MAX, metadata in prop_oneof![
                any::<Vec<u8>>(), "replayed=([0-9]{1,10}\\+[0-9]{1,10},?){0,9}".prop_map(String::into_bytes),
            ],
        ) {
            let progress = Progress::decode(position, &metadata);
            prop_assert!(progress.position() >= position);
            let (position, metadata, _) = progress.encode();
            prop_assert_eq!(Progress::decode(position, metadata.as_bytes()), progress);
        }
    }
}

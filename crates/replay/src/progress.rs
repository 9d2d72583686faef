//! `Progress`: tracks which dead letters of a partition have been replayed.
//!
//! An offset is done if its record needs no further replay. A group's committed offset says that
//! all offsets before it are done. A replay may select some letters and leave others, so offsets
//! past the committed one may be done too. These are listed in the metadata of the commit:
//! `replayed=2+3,5+1` means that, beginning at the committed offset, two offsets are not done,
//! three are done, five are not done, and one is done.

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
    /// The smallest offset that is not done.
    position: i64,
    /// Ranges of done offsets past the position, as start and exclusive end. They touch neither
    /// each other nor the position.
    beyond: BTreeMap<i64, i64>,
}

impl Progress {
    pub(super) fn at(position: i64) -> Self {
        Self { position, beyond: BTreeMap::new() }
    }

    /// Decodes a committed offset and its metadata. Invalid metadata, and that of other programs,
    /// is ignored.
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
        // Merges the new range with those that it overlaps or touches.
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
    fn the_metadata_tells_which_letters_are_left() {
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
        fn fuzz_any_metadata_is_decoded_or_ignored(
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

//! `Shapes`: the rectangles that a device computes for batches.

use super::BatchLoad;

/// The rectangles that a device is given: `size` members of a batch, each padded to `length`
/// elements.
///
/// A device that takes rectangles needs every member of a batch padded to the length of the
/// longest. A device that also compiles and tunes its kernels for every new rectangle should be
/// given few different ones. For it, sizes and lengths are rounded up to the values of two fixed
/// lists: the rungs of two ladders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    pads: bool,
    // The rungs of both ladders, ascending. A value above the last rung is not rounded; a ladder
    // without rungs rounds nothing. Each length stands together with the largest size that a
    // rectangle of that length may have.
    sizes: Vec<u64>,
    lengths: Vec<(u64, u64)>,
}

impl Shapes {
    /// Returns the shapes of a device that takes members of different lengths without padding.
    #[must_use]
    pub fn ragged() -> Self {
        Self { pads: false, sizes: Vec::new(), lengths: Vec::new() }
    }

    /// Returns the shapes of a device that pads to the longest member: each batch has the smallest
    /// rectangle that contains it.
    #[must_use]
    pub fn padded() -> Self {
        Self { pads: true, ..Self::ragged() }
    }

    /// Returns shapes that are rounded up: the size to the next of `sizes`, the length to the next
    /// of `lengths`. `fits` says whether the device can take a rectangle `[size, length]`; a single
    /// member is not checked. If `fits` refuses a rectangle, it must refuse all that are larger.
    #[must_use]
    pub fn ladder(
        mut sizes: Vec<u64>,
        mut lengths: Vec<u64>,
        fits: impl Fn([u64; 2]) -> bool,
    ) -> Self {
        for ladder in [&mut sizes, &mut lengths] {
            ladder.sort_unstable();
            ladder.dedup();
        }
        let largest = |length| sizes.iter().copied().rev().find(|&size| fits([size, length]));
        let lengths = lengths.into_iter().map(|length| (length, largest(length).unwrap_or(1)));
        Self { pads: true, lengths: lengths.collect(), sizes }
    }

    /// Whether members are padded. If so, every member of a batch costs as much as the longest one.
    #[must_use]
    pub fn pads(&self) -> bool {
        self.pads
    }

    /// Returns the rectangle of a batch, `[size, length]`.
    #[must_use]
    pub fn round_up(&self, size: usize, longest: u64) -> [u64; 2] {
        let size = size as u64;
        let length = self.rung(longest).map(|(length, _)| length);
        let next = self.sizes.iter().copied().find(|&rung| rung >= size);
        [next.unwrap_or(size), length.unwrap_or(longest)]
    }

    /// Returns the length that `longest` is rounded up to, and the largest size that fits with it.
    fn rung(&self, longest: u64) -> Option<(u64, u64)> {
        self.lengths.iter().copied().find(|&(length, _)| length >= longest)
    }

    /// Whether the rectangle of a batch fits.
    pub(super) fn admits(&self, load: BatchLoad) -> bool {
        let most = self.rung(load.longest).map_or(u64::MAX, |(_, most)| most);
        load.size <= 1 || load.size as u64 <= most
    }

    /// Returns the number of elements that the device computes for a batch, including padding.
    #[must_use]
    pub fn elements(&self, load: BatchLoad) -> u64 {
        if !self.pads {
            return load.total;
        }
        let [size, length] = self.round_up(load.size, load.longest);
        size.saturating_mul(length)
    }

    /// Returns the number of pairs of elements of the same member, including padding: the cost of
    /// attention.
    #[must_use]
    pub fn pairs(&self, load: BatchLoad) -> u64 {
        if !self.pads {
            return load.squares;
        }
        let [size, length] = self.round_up(load.size, load.longest);
        size.saturating_mul(length).saturating_mul(length)
    }

    /// Returns every rectangle that fits and whose sides are rungs, the smallest first; none if
    /// there are no ladders.
    #[must_use]
    pub fn all(&self) -> Vec<[u64; 2]> {
        let lengths = self.lengths.iter().flat_map(|&(length, most)| {
            let fits = move |size: &u64| *size <= most;
            self.sizes.iter().copied().filter(fits).map(move |size| [size, length])
        });
        let mut all: Vec<_> = lengths.collect();
        all.sort_by_key(|[size, length]| (size * length, *length));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BatchLoad, Shapes};

    #[test]
    fn without_padding_only_the_elements_of_the_batch_count() {
        let load: BatchLoad = [3, 5].into_iter().collect();
        let ragged = Shapes::ragged();
        assert_eq!((ragged.elements(load), ragged.pairs(load)), (8, 9 + 25));
        let padded = Shapes::padded();
        assert_eq!((padded.elements(load), padded.pairs(load)), (2 * 5, 2 * 25));
        assert!(ragged.all().is_empty() && padded.all().is_empty());
    }

    proptest! {
        #[test]
        fn a_ladder_admits_exactly_the_batches_whose_shape_is_one_of_all_shapes(lengths in prop::collection::vec(1_u64..300, 1..9)) {
            let fits = |[size, length]: [u64; 2]| size * length <= 1024;
            let shapes = Shapes::ladder(vec![1, 2, 4, 8], vec![16, 64, 300], fits);
            let load: BatchLoad = lengths.iter().copied().collect();
            let shape = shapes.round_up(load.size, load.longest);
            prop_assert!(shape[0] >= load.size as u64 && shape[1] >= load.longest);
            prop_assert_eq!(shapes.admits(load), shapes.all().contains(&shape));
        }
    }
}

//! `split`: divides waiting members into batches.

use std::ops::Range;

use super::cost_model::Prices;
use super::{BatchLoad, CostModel};

/// Divides members, given by their lengths in ascending order, into the batches that take the least
/// time in total. Each batch has at most `max_size` members and `max_elements` elements, unless a
/// single member has more.
///
/// This is the dynamic programme of `TurboTransformers`: the cheapest division of the first `n`
/// members ends in a batch of the last `k`, preceded by the cheapest division of the first `n - k`.
#[must_use]
pub fn split(
    lengths: &[u64],
    max_size: usize,
    max_elements: u64,
    costs: &CostModel,
) -> Vec<Range<usize>> {
    // Seconds that are added for each batch, so that the one with fewer batches wins if two
    // divisions have the same cost. If they have the same number of batches as well, the one with
    // the smaller last batch wins, because the loop below tries it first.
    const FEWER: f64 = 1e-6;
    let prices = costs.prices();
    if !prices.shapes.pads() {
        return fill(lengths, max_size, max_elements, &prices);
    }
    // `best[n]` holds the cost of the cheapest division of the first `n` members, and the size of
    // its last batch.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0)];
    for end in 1..=lengths.len() {
        let mut load = BatchLoad::default();
        let mut cheapest = (f64::INFINITY, 1);
        for start in (end.saturating_sub(max_size.max(1))..end).rev() {
            load = load.with(lengths[start]);
            if load.size > 1 && !fits(load, max_elements, &prices) {
                break;
            }
            let cost = best[start].0 + prices.seconds(load) + FEWER;
            if cost < cheapest.0 {
                cheapest = (cost, end - start);
            }
        }
        best.push(cheapest);
    }
    let mut batches = Vec::new();
    let mut end = lengths.len();
    while end > 0 {
        let start = end - best[end].1;
        batches.push(start..end);
        end = start;
    }
    batches.reverse();
    batches
}

/// Whether a batch of more than one member stays within the limits.
pub(super) fn fits(load: BatchLoad, max_elements: u64, prices: &Prices<'_>) -> bool {
    prices.shapes.elements(load) <= max_elements && prices.shapes.admits(load)
}

/// Fills one batch after the other up to the limits. Without padding, the division with the fewest
/// batches is the cheapest.
fn fill(
    lengths: &[u64],
    max_size: usize,
    max_elements: u64,
    prices: &Prices<'_>,
) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut load = BatchLoad::default();
    for (index, &length) in lengths.iter().enumerate() {
        let more = load.with(length);
        if load.size > 0 && (load.size >= max_size || !fits(more, max_elements, prices)) {
            batches.push(start..index);
            (start, load) = (index, BatchLoad::default());
        }
        load = load.with(length);
    }
    if load.size > 0 {
        batches.push(start..lengths.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{BatchLoad, CostModel, Shapes};
    use super::split;

    /// Returns costs of 3 ms for a call and 2 us for an element.
    fn costs(shapes: Shapes) -> CostModel {
        let costs = CostModel::new(shapes);
        for size in [1, 4, 16, 64] {
            for length in [4, 16, 64, 256] {
                let load: BatchLoad = std::iter::repeat_n(length, size).collect();
                let micros = 3000 + 2 * costs.shapes().elements(load);
                costs.seed(load, Duration::from_micros(micros));
            }
        }
        costs
    }

    #[test]
    fn lengths_that_would_need_too_much_padding_are_separated() {
        let costs = costs(Shapes::padded());
        assert_eq!(
            split(&[10, 10, 250], 64, u64::MAX, &costs).len(),
            1,
            "another call costs more than the padding"
        );
        let short_and_long: Vec<_> = [vec![10; 16], vec![250]].concat();
        assert_eq!(split(&short_and_long, 64, u64::MAX, &costs), [0..16, 16..17]);
    }

    #[test]
    fn without_padding_batches_are_filled() {
        let costs = costs(Shapes::ragged());
        assert_eq!(split(&[1, 1, 250, 250], 3, u64::MAX, &costs), [0..3, 3..4]);
        assert_eq!(split(&[1, 1, 250, 250], 9, 252, &costs), [0..3, 3..4]);
        assert_eq!(
            split(&[9, 9], 9, 3, &costs),
            [0..1, 1..2],
            "a single member may exceed the limit"
        );
        assert!(split(&[], 9, 9, &costs).is_empty());
    }

    /// Returns the cost of the cheapest division, found by trying all of them.
    fn cheapest(lengths: &[u64], costs: &CostModel, max_size: usize) -> f64 {
        let cuts = lengths.len() - 1;
        let all = (0_u32..1 << cuts).map(|cut| {
            let mut total = 0.0;
            let mut load = BatchLoad::default();
            for (index, &length) in lengths.iter().enumerate() {
                load = load.with(length);
                if index == cuts || cut & (1 << index) != 0 {
                    if load.size > max_size {
                        return f64::INFINITY;
                    }
                    total += costs.predict(load).as_secs_f64();
                    load = BatchLoad::default();
                }
            }
            total
        });
        all.fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn no_division_is_cheaper(mut lengths in prop::collection::vec(1_u64..300, 1..11), max_size in 1_usize..12) {
            lengths.sort_unstable();
            let ladder = Shapes::ladder(vec![1, 2, 4, 8, 16], vec![16, 64, 128, 300], |_| true);
            for costs in [costs(Shapes::padded()), costs(ladder)] {
                let found: f64 = split(&lengths, max_size, u64::MAX, &costs)
                    .into_iter()
                    .map(|range| costs.predict(lengths[range].iter().copied().collect()).as_secs_f64())
                    .sum();
                let least = cheapest(&lengths, &costs, max_size);
                prop_assert!(found <= least + 2e-5, "{found} {least}");
            }
        }

        #[test]
        fn every_member_is_in_one_batch_within_the_limits(
            mut lengths in prop::collection::vec(1_u64..600, 0..80), max_size in 1_usize..20, max_elements in 1_u64..9000,
        ) {
            lengths.sort_unstable();
            let fits = |[size, length]: [u64; 2]| size * length <= 4096;
            let ladder = Shapes::ladder(vec![1, 2, 4, 8], vec![16, 64, 128, 512], fits);
            for costs in [costs(Shapes::ragged()), costs(Shapes::padded()), costs(ladder)] {
                let batches = split(&lengths, max_size, max_elements, &costs);
                let members: Vec<_> = batches.iter().cloned().flatten().collect();
                prop_assert_eq!(members, (0..lengths.len()).collect::<Vec<_>>());
                for batch in batches {
                    let load: BatchLoad = lengths[batch].iter().copied().collect();
                    prop_assert!(load.size <= max_size);
                    let elements = costs.shapes().elements(load);
                    prop_assert!(load.size == 1 || elements <= max_elements && costs.shapes().admits(load));
                }
            }
        }
    }
}

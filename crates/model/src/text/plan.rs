//! Cutting a batch into parts, each of which is one run of the device.

use std::num::NonZeroUsize;

use forebay_stream::batching::{CostModel, Load, Shapes, split};

/// Lengths that a GPU's texts are rounded up to, in tokens.
const LENGTHS: [u64; 9] = [16, 32, 64, 96, 128, 192, 256, 384, 512];
/// Numbers of texts that a GPU's batches are rounded up to.
const SIZES: [u64; 18] =
    [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
/// Most tokens in one run on a GPU, padding counted in.
const MAX_AREA: u64 = 16_384;

/// Texts that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Their places in the batch, shortest text first.
    pub(super) members: Vec<usize>,
    /// The lengths of the texts.
    pub(super) load: Load,
}

/// Cuts texts, each given by its place and its length in tokens, into the parts that take the device the least time.
pub(super) fn parts(mut texts: Vec<(usize, u64)>, costs: &CostModel) -> Vec<Part> {
    texts.sort_by_key(|&(place, length)| (length, place));
    let lengths: Vec<_> = texts.iter().map(|(_, length)| *length).collect();
    let parts = split(&lengths, usize::MAX, u64::MAX, costs).into_iter().map(|range| Part {
        members: texts[range.clone()].iter().map(|(place, _)| *place).collect(),
        load: lengths[range].iter().copied().collect(),
    });
    parts.collect()
}

/// The rectangles of a GPU, which compiles and tunes its kernels for every new one.
pub(super) fn ladder(max_batch: NonZeroUsize, max_tokens: usize) -> Shapes {
    let (max_batch, max_tokens) = (max_batch.get() as u64, max_tokens as u64);
    let rungs = |ladder: &[u64], top: u64| {
        let below = ladder.iter().copied().take_while(|&rung| rung < top);
        below.chain([top]).collect::<Vec<_>>()
    };
    Shapes::ladder(rungs(&SIZES, max_batch), rungs(&LENGTHS, max_tokens), MAX_AREA)
}

/// The only rectangle of a software GPU, where compiling dwarfs computing.
pub(super) fn single(max_batch: NonZeroUsize, max_tokens: usize) -> Shapes {
    Shapes::ladder(vec![max_batch.get() as u64], vec![max_tokens as u64], u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use forebay_stream::batching::{CostModel, Load, Shapes};

    use super::{ladder, parts, single};

    fn rows(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn places(lengths: &[u64]) -> Vec<(usize, u64)> {
        lengths.iter().copied().enumerate().collect()
    }

    /// A device whose calls cost as much as 100 tokens.
    fn costs(shapes: Shapes) -> CostModel {
        let costs = CostModel::new(shapes);
        for (size, length) in [(1, 16), (8, 16), (1, 256), (8, 256)] {
            let load: Load = std::iter::repeat_n(length, size).collect();
            costs.seed(load, Duration::from_micros(100 + costs.shapes().elements(load)));
        }
        costs
    }

    #[test]
    fn short_and_long_texts_share_a_part_only_where_nothing_is_padded() {
        let lengths = places(&[250, 5, 251, 5]);
        let all: Vec<_> = parts(lengths.clone(), &costs(Shapes::ragged()))
            .into_iter()
            .map(|part| part.members)
            .collect();
        assert_eq!(all, [[1, 3, 0, 2]]);
        let costs = costs(ladder(rows(64), 256));
        let apart: Vec<_> = parts(lengths, &costs).into_iter().map(|part| part.members).collect();
        assert_eq!(apart, [[1, 3], [0, 2]]);
    }

    #[test]
    fn every_shape_on_a_gpu_is_one_that_was_warmed() {
        for most in [1, 2, 6, 64, 1024] {
            for shapes in [ladder(rows(most), 300), single(rows(most), 300)] {
                let costs = costs(shapes);
                let lengths: Vec<_> = (0..200).map(|n| 2 + (n * n * 7) % 299).collect();
                for part in parts(places(&lengths), &costs) {
                    let shape = costs.shapes().round_up(part.load.size, part.load.longest);
                    assert!(costs.shapes().all().contains(&shape), "{shape:?} of {most}");
                }
            }
        }
    }

    #[test]
    fn the_ladder_of_a_gpu_is_bounded() {
        assert_eq!(ladder(rows(2), 16).all(), [[1, 16], [2, 16]]);
        let shapes = ladder(rows(64), 512).all();
        assert!(shapes.len() <= 9 * 10, "{shapes:?}");
        assert!(shapes.iter().all(|[rows, length]| rows * length <= 16_384));
        assert_eq!(single(rows(4), 128).all(), [[4, 128]]);
    }
}

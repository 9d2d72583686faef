//! Cutting a batch into parts, each of which is computed in one run of the device, and choosing the
//! shapes that a GPU computes. A shape is the size to which a run is padded, `[texts, tokens per
//! text]`.

use std::num::NonZeroUsize;

use forebay_stream::batching::{BatchLoad, CostModel, Shapes, split};

/// Lengths in tokens. A GPU pads all texts of a run to one of these lengths.
const LENGTHS: [u64; 9] = [16, 32, 64, 96, 128, 192, 256, 384, 512];
/// Numbers of texts. A GPU's run is filled up to one of these sizes with rows of padding.
const SIZES: [u64; 18] =
    [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
/// Most tokens in one run on a GPU, including padding. At this size the fixed cost of a run is
/// negligible.
const MAX_AREA: u64 = 16_384;
/// Most bytes of one intermediate result of the encoder on a GPU. A run has a few of them in memory
/// at the same time, so it needs a few times as much.
const MAX_BYTES: u64 = 512 << 20;

/// The texts of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Positions of the texts in the batch, shortest text first.
    pub(super) members: Vec<usize>,
    /// The lengths of the texts.
    pub(super) load: BatchLoad,
}

/// Cuts texts, given as (position in the batch, length in tokens), into the parts that take the
/// device the least time.
pub(super) fn parts(mut texts: Vec<(usize, u64)>, costs: &CostModel) -> Vec<Part> {
    texts.sort_by_key(|&(place, length)| (length, place));
    let lengths: Vec<_> = texts.iter().map(|(_, length)| *length).collect();
    let parts = split(&lengths, usize::MAX, u64::MAX, costs).into_iter().map(|range| Part {
        members: texts[range.clone()].iter().map(|(place, _)| *place).collect(),
        load: lengths[range].iter().copied().collect(),
    });
    parts.collect()
}

/// The sizes of an encoder that decide how much memory a run takes on a GPU, and the GPU's limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Bytes per number.
    pub(super) number: u64,
    /// Numbers per token in the widest intermediate result.
    pub(super) token: u64,
    /// Attention scores per pair of tokens of one text: one for each head.
    pub(super) pair: u64,
    /// Most bytes of one intermediate result, as limited by the device's driver.
    pub(super) most: u64,
}

impl Memory {
    /// Returns whether the largest intermediate result of a run with this shape is within the
    /// limit.
    fn holds(self, [rows, length]: [u64; 2]) -> bool {
        let tokens = rows.saturating_mul(length);
        let scores = tokens.saturating_mul(length).saturating_mul(self.pair);
        let numbers = scores.max(tokens.saturating_mul(self.token));
        numbers.saturating_mul(self.number) <= self.most.min(MAX_BYTES)
    }
}

/// Returns the shapes that a GPU computes. Their numbers of texts are the `SIZES` below `max_batch`
/// and `max_batch` itself, and their lengths are the `LENGTHS` below `max_tokens` and `max_tokens`
/// itself. A number and a length make a shape if it has at most `MAX_AREA` tokens and fits into
/// memory, or if it is a single text. There are few shapes, because kernels are compiled and tuned
/// for each.
pub(super) fn ladder(max_batch: NonZeroUsize, max_tokens: usize, memory: Memory) -> Shapes {
    let max_batch = max_batch.get() as u64;
    let max_tokens = max_tokens as u64;
    let rungs = |ladder: &[u64], top: u64| {
        let below = ladder.iter().copied().take_while(|&rung| rung < top);
        below.chain([top]).collect::<Vec<_>>()
    };
    let fits = |[rows, length]: [u64; 2]| rows * length <= MAX_AREA && memory.holds([rows, length]);
    Shapes::ladder(rungs(&SIZES, max_batch), rungs(&LENGTHS, max_tokens), fits)
}

/// Returns the only shape for a GPU that is emulated on the CPU: texts of `max_tokens`, and as many
/// of them as fit, up to `max_batch`. Compiling another shape would take much longer than the
/// padding costs.
pub(super) fn single(max_batch: NonZeroUsize, max_tokens: usize, memory: Memory) -> Shapes {
    let length = max_tokens as u64;
    let rows = (1..=max_batch.get() as u64).rev().find(|&rows| memory.holds([rows, length]));
    Shapes::ladder(vec![rows.unwrap_or(1)], vec![length], |_| true)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use forebay_stream::batching::{BatchLoad, CostModel, Shapes};

    use super::{Memory, ladder, parts, single};

    /// The sizes of `MiniLM` in f32, on a device without a limit.
    const MEMORY: Memory = Memory { number: 4, token: 1536, pair: 12, most: u64::MAX };

    fn rows(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn with_positions(lengths: &[u64]) -> Vec<(usize, u64)> {
        lengths.iter().copied().enumerate().collect()
    }

    /// Returns the cost model of a device on which a run takes 100 µs plus 1 µs per token,
    /// including padding.
    fn costs(shapes: Shapes) -> CostModel {
        let costs = CostModel::new(shapes);
        for (size, length) in [(1, 16), (8, 16), (1, 256), (8, 256)] {
            let load: BatchLoad = std::iter::repeat_n(length, size).collect();
            costs.seed(load, Duration::from_micros(100 + costs.shapes().elements(load)));
        }
        costs
    }

    #[test]
    fn short_and_long_texts_are_in_one_part_only_if_nothing_is_padded() {
        let lengths = with_positions(&[250, 5, 251, 5]);
        let all: Vec<_> = parts(lengths.clone(), &costs(Shapes::ragged()))
            .into_iter()
            .map(|part| part.members)
            .collect();
        assert_eq!(all, [[1, 3, 0, 2]]);
        let costs = costs(ladder(rows(64), 256, MEMORY));
        let apart: Vec<_> = parts(lengths, &costs).into_iter().map(|part| part.members).collect();
        assert_eq!(apart, [[1, 3], [0, 2]]);
    }

    #[test]
    fn every_part_has_a_shape_that_the_warm_up_compiles() {
        for most in [1, 2, 6, 64, 1024] {
            for shapes in [ladder(rows(most), 300, MEMORY), single(rows(most), 300, MEMORY)] {
                let costs = costs(shapes);
                let lengths: Vec<_> = (0..200).map(|n| 2 + (n * n * 7) % 299).collect();
                for part in parts(with_positions(&lengths), &costs) {
                    let shape = costs.shapes().round_up(part.load.size, part.load.longest);
                    assert!(
                        costs.shapes().all().contains(&shape),
                        "shape {shape:?} is not compiled with max_batch {most}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_number_of_shapes_and_their_size_are_limited() {
        assert_eq!(ladder(rows(2), 16, MEMORY).all(), [[1, 16], [2, 16]]);
        let shapes = ladder(rows(64), 512, MEMORY).all();
        assert!(shapes.len() <= 9 * 10, "{shapes:?}");
        assert!(shapes.iter().all(|[rows, length]| rows * length <= 16_384));
        assert_eq!(single(rows(4), 128, MEMORY).all(), [[4, 128]]);
    }

    #[test]
    fn every_shape_of_more_than_one_text_fits_into_the_devices_memory() {
        // The widest intermediate result takes 6 KiB per token, and the attention scores of a text
        // of 512 tokens take 12 MiB.
        let memory = Memory { most: 24 << 20, ..MEMORY };
        let largest = |length: u64| {
            let shapes = ladder(rows(1024), 512, memory).all();
            shapes.into_iter().filter(|shape| shape[1] == length).map(|[rows, _]| rows).max()
        };
        assert_eq!(
            largest(16),
            Some(256),
            "24 MiB hold 4096 tokens of 6 KiB, or 256 texts of 16 tokens"
        );
        assert_eq!(largest(512), Some(2));
        assert_eq!(single(rows(64), 512, memory).all(), [[2, 512]]);
        let tiny = Memory { most: 1 << 20, ..MEMORY };
        assert_eq!(single(rows(64), 512, tiny).all(), [[1, 512]]);
        assert_eq!(
            ladder(rows(64), 512, Memory { most: 1 << 30, ..MEMORY }),
            ladder(rows(64), 512, MEMORY)
        );
    }
}

//! Cutting a batch into parts, each of which is one run of the device.

use std::num::NonZeroUsize;

use forebay_stream::batching::{BatchLoad, CostModel, Shapes, split};

/// Lengths that a GPU's texts are rounded up to, in tokens.
const LENGTHS: [u64; 9] = [16, 32, 64, 96, 128, 192, 256, 384, 512];
/// Numbers of texts that a GPU's batches are rounded up to.
const SIZES: [u64; 18] =
    [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
/// Most tokens in one run on a GPU, padding counted in: enough that a call's fixed cost is nothing beside them.
const MAX_AREA: u64 = 16_384;
/// Most bytes of one of the encoder's intermediate results on a GPU. A few of them are alive at a time.
const MAX_BYTES: u64 = 512 << 20;

/// Texts that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Their places in the batch, shortest text first.
    pub(super) members: Vec<usize>,
    /// The lengths of the texts.
    pub(super) load: BatchLoad,
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

/// The memory that rectangles take on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Bytes of one number.
    pub(super) number: u64,
    /// Numbers for a token, in the widest result.
    pub(super) token: u64,
    /// Numbers for each pair of tokens of a text, its attention scores.
    pub(super) pair: u64,
    /// Most bytes that one result may have, which the device's driver says.
    pub(super) most: u64,
}

impl Memory {
    fn holds(self, [rows, length]: [u64; 2]) -> bool {
        let tokens = rows.saturating_mul(length);
        let scores = tokens.saturating_mul(length).saturating_mul(self.pair);
        let numbers = scores.max(tokens.saturating_mul(self.token));
        numbers.saturating_mul(self.number) <= self.most.min(MAX_BYTES)
    }
}

/// The rectangles of a GPU, which compiles and tunes its kernels for every new one.
pub(super) fn ladder(max_batch: NonZeroUsize, max_tokens: usize, memory: Memory) -> Shapes {
    let (max_batch, max_tokens) = (max_batch.get() as u64, max_tokens as u64);
    let rungs = |ladder: &[u64], top: u64| {
        let below = ladder.iter().copied().take_while(|&rung| rung < top);
        below.chain([top]).collect::<Vec<_>>()
    };
    let fits = |[rows, length]: [u64; 2]| rows * length <= MAX_AREA && memory.holds([rows, length]);
    Shapes::ladder(rungs(&SIZES, max_batch), rungs(&LENGTHS, max_tokens), fits)
}

/// The only rectangle of a software GPU, where compiling dwarfs computing.
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

    /// Of `MiniLM` in f32 on a device without a limit.
    const MEMORY: Memory = Memory { number: 4, token: 1536, pair: 12, most: u64::MAX };

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
            let load: BatchLoad = std::iter::repeat_n(length, size).collect();
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
        let costs = costs(ladder(rows(64), 256, MEMORY));
        let apart: Vec<_> = parts(lengths, &costs).into_iter().map(|part| part.members).collect();
        assert_eq!(apart, [[1, 3], [0, 2]]);
    }

    #[test]
    fn every_shape_on_a_gpu_is_one_that_was_warmed() {
        for most in [1, 2, 6, 64, 1024] {
            for shapes in [ladder(rows(most), 300, MEMORY), single(rows(most), 300, MEMORY)] {
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
        assert_eq!(ladder(rows(2), 16, MEMORY).all(), [[1, 16], [2, 16]]);
        let shapes = ladder(rows(64), 512, MEMORY).all();
        assert!(shapes.len() <= 9 * 10, "{shapes:?}");
        assert!(shapes.iter().all(|[rows, length]| rows * length <= 16_384));
        assert_eq!(single(rows(4), 128, MEMORY).all(), [[4, 128]]);
    }

    #[test]
    fn no_result_is_larger_than_the_device_takes_save_for_a_text_alone() {
        // The widest result of a token has 6 KiB, and the scores of 512 tokens 12 MiB.
        let memory = Memory { most: 24 << 20, ..MEMORY };
        let largest = |length: u64| {
            let shapes = ladder(rows(1024), 512, memory).all();
            shapes.into_iter().filter(|shape| shape[1] == length).map(|[rows, _]| rows).max()
        };
        assert_eq!(largest(16), Some(256), "4096 tokens");
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

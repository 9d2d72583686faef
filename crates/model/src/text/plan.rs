//! Cutting a batch into parts of like length.

use super::shapes::Shapes;

/// Texts that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Their places in the batch, shortest text first.
    pub(super) members: Vec<usize>,
    /// The rectangle that holds them, `[rows, tokens]`.
    pub(super) shape: [usize; 2],
}

/// Cuts texts, each given by its place and its length in tokens, into parts that waste little on padding.
///
/// Sorted by length, a part grows until the next text would make too much of it padding or the whole too large.
pub(super) fn parts(mut texts: Vec<(usize, usize)>, shapes: &Shapes) -> Vec<Part> {
    texts.sort_by_key(|&(place, length)| (length, place));
    let mut parts = Vec::new();
    let mut members = Vec::new();
    let (mut tokens, mut longest) = (0, 0);
    for (place, length) in texts {
        if !members.is_empty() && !shapes.may_join(members.len(), tokens, length) {
            let shape = shapes.round_up(members.len(), longest);
            parts.push(Part { members: std::mem::take(&mut members), shape });
            tokens = 0;
        }
        members.push(place);
        tokens += length;
        longest = length;
    }
    if !members.is_empty() {
        let shape = shapes.round_up(members.len(), longest);
        parts.push(Part { members, shape });
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{Part, parts};
    use crate::text::shapes::Shapes;

    fn rows(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    fn places(lengths: &[usize]) -> Vec<(usize, usize)> {
        lengths.iter().copied().enumerate().collect()
    }

    #[test]
    fn short_and_long_texts_share_a_part_only_where_nothing_is_padded() {
        let lengths = places(&[250, 5, 251, 5]);
        let all = Part { members: vec![1, 3, 0, 2], shape: [4, 251] };
        assert_eq!(parts(lengths.clone(), &Shapes::any()), [all]);
        let short = Part { members: vec![1, 3], shape: [2, 16] };
        let long = Part { members: vec![0, 2], shape: [2, 256] };
        assert_eq!(parts(lengths, &Shapes::ladder(rows(64), 256)), [short, long]);
    }

    #[test]
    fn every_shape_on_a_gpu_is_one_that_was_warmed() {
        for most in [1, 2, 6, 64] {
            let shapes = Shapes::ladder(rows(most), 300);
            let warm = shapes.all();
            let lengths: Vec<_> = (0..200).map(|n| 2 + (n * n * 7) % 299).collect();
            let found = parts(places(&lengths), &shapes);
            assert!(found.iter().all(|part| warm.contains(&part.shape)), "{found:?} {warm:?}");
        }
    }

    #[test]
    fn every_text_is_in_exactly_one_part_that_holds_it() {
        let lengths: Vec<_> = (0..300).map(|n| 2 + (n * 37) % 510).collect();
        for shapes in [Shapes::any(), Shapes::ladder(rows(16), 512), Shapes::single(rows(4), 512)] {
            let found = parts(places(&lengths), &shapes);
            let mut members: Vec<_> = found.iter().flat_map(|part| part.members.clone()).collect();
            members.sort_unstable();
            assert_eq!(members, (0..300).collect::<Vec<_>>());
            for part in found {
                assert!(part.members.len() <= part.shape[0]);
                assert!(part.members.iter().all(|&member| lengths[member] <= part.shape[1]));
            }
        }
    }

    #[test]
    fn the_ladder_of_a_gpu_is_bounded() {
        assert_eq!(Shapes::ladder(rows(2), 16).all(), [[1, 16], [2, 16]]);
        let shapes = Shapes::ladder(rows(64), 512).all();
        assert!(shapes.len() <= 9 * 7, "{shapes:?}");
        assert!(shapes.iter().all(|[rows, length]| rows * length <= 16_384));
        assert_eq!(Shapes::single(rows(4), 128).all(), [[4, 128]]);
        assert!(Shapes::any().all().is_empty());
    }
}

//! `Shapes`: which rectangles of tokens a device is given.

use std::num::NonZeroUsize;

/// Lengths that a GPU's texts are rounded up to, in tokens.
const LENGTHS: [usize; 9] = [16, 32, 64, 96, 128, 192, 256, 384, 512];

/// Which rectangles `[texts, tokens]` a device is given, and how much of one may be padding.
///
/// A GPU compiles and tunes its kernels for every new shape, so there are few; the CPU's encoder pads nothing, so that
/// one rectangle holds whatever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    /// Lengths to round up to, ascending; any length is a shape where there are none.
    lengths: Vec<usize>,
    /// Numbers of texts to round up to, ascending; as with the lengths.
    rows: Vec<usize>,
    /// Most texts in one rectangle.
    max_rows: usize,
    /// Most tokens in one rectangle, padding counted in, unless one text alone has more.
    max_area: usize,
    /// Share of a rectangle that texts shorter than its longest may leave empty, in percent.
    max_waste: usize,
}

impl Shapes {
    /// The CPU's: one for all.
    pub(super) fn any() -> Self {
        Self {
            lengths: Vec::new(),
            rows: Vec::new(),
            max_rows: usize::MAX,
            max_area: usize::MAX,
            max_waste: 100,
        }
    }

    /// A GPU's: rounded up to a ladder of lengths and to powers of two of texts.
    pub(super) fn ladder(max_rows: NonZeroUsize, max_tokens: usize) -> Self {
        let mut lengths: Vec<_> =
            LENGTHS.into_iter().take_while(|&length| length < max_tokens).collect();
        lengths.push(max_tokens);
        let max_rows = max_rows.get().next_power_of_two();
        let rows = (0..=max_rows.ilog2()).map(|power| 1 << power).collect();
        Self { lengths, rows, max_rows, max_area: 16_384, max_waste: 50 }
    }

    /// A software GPU's: a single shape, since compiling dwarfs computing there.
    pub(super) fn single(max_rows: NonZeroUsize, max_tokens: usize) -> Self {
        Self {
            lengths: vec![max_tokens],
            rows: vec![max_rows.get()],
            max_rows: max_rows.get(),
            max_area: usize::MAX,
            max_waste: 100,
        }
    }

    /// The shape that holds `rows` texts of at most `length` tokens.
    pub(super) fn round_up(&self, rows: usize, length: usize) -> [usize; 2] {
        let next = |ladder: &[usize], size| {
            ladder.iter().copied().find(|&rung| rung >= size).unwrap_or(size)
        };
        [next(&self.rows, rows), next(&self.lengths, length)]
    }

    /// Whether a text of `length` tokens may join `rows` shorter ones that have `tokens` tokens in all.
    pub(super) fn may_join(&self, rows: usize, tokens: usize, length: usize) -> bool {
        let [padded_rows, padded_length] = self.round_up(rows + 1, length);
        let area = (rows + 1).saturating_mul(length);
        rows < self.max_rows
            && padded_rows.saturating_mul(padded_length) <= self.max_area
            && (area - tokens - length) * 100 <= area * self.max_waste
    }

    /// Every shape that can occur, smallest first; none where any shape may.
    pub(super) fn all(&self) -> Vec<[usize; 2]> {
        let shapes = self.lengths.iter().flat_map(|&length| {
            let fits = move |rows: usize| rows == 1 || rows.saturating_mul(length) <= self.max_area;
            self.rows.iter().map(move |&rows| [rows, length]).filter(move |shape| fits(shape[0]))
        });
        let mut shapes: Vec<_> = shapes.collect();
        shapes.sort_by_key(|[rows, length]| (rows * length, *length));
        shapes
    }
}

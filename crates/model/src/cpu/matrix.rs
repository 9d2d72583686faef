//! Matrix products, with the right factor packed beforehand.
//!
//! The scheme is that of `GotoBLAS`: the right factor lies in panels of [`PANEL`] columns, the left one is packed in tiles
//! of a few rows, and the innermost loop keeps a tile of the product in registers. It is plain Rust that the compiler
//! turns into vector instructions, for weights are packed once here and other libraries pack them for each product.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the instructions of its caller"
)]

mod pair;

use std::sync::LazyLock;

use multiversion::multiversion;

pub(super) use pair::{Pair, has_dot_products};

/// Columns that are computed together: two of the widest registers.
const PANEL: usize = 32;

/// Rows of the right factor that are gone through at once, so that their panel stays in the nearest cache.
const DEPTH: usize = 256;

/// A matrix in someone else's memory, of which only the numbers `[row * row_step + column * column_step]` are meant.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

/// What packed matrices are made of: a number, or several that are multiplied at once.
pub(super) trait Element: Copy + Default + Send + Sync + 'static {
    /// How many numbers; a power of two.
    const NUMBERS: usize;

    fn set(&mut self, place: usize, number: f32);

    /// The elements of numbers that follow each other, `DEPTH` at most.
    fn row<'a>(numbers: &'a [f32], buffer: &'a mut [Self; DEPTH]) -> &'a [Self];

    /// `out = left × right`, where a row of `left` has no gaps.
    fn product(right: Columns<'_, Self>, left: View<'_>, out: Out<'_>, tiles: &mut Tiles);
}

/// A matrix as the right factor of products.
#[derive(Default)]
pub(super) struct Packed<E> {
    /// One panel after the other, each `[elements, PANEL]`, an element being of rows that follow each other; what is
    /// beyond the last row and the last column is 0.
    panels: Vec<E>,
    rows: usize,
    columns: usize,
}

/// Some columns of a packed matrix.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a, E> {
    panels: &'a [E],
    rows: usize,
    pub(super) count: usize,
}

/// Working memory of products: the left factor.
#[derive(Default)]
pub(super) struct Tiles {
    numbers: Vec<f32>,
    pairs: Vec<Pair>,
}

/// Where a product goes: rows of `columns` numbers, whose beginnings lie `step` apart.
pub(super) struct Out<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) step: usize,
}

/// Vector instructions that the processor has.
#[derive(Clone, Copy)]
enum Level {
    Avx512,
    Fused,
    Plain,
}

static LEVEL: LazyLock<Level> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        if wide {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Fused;
        }
    }
    if cfg!(target_arch = "aarch64") { Level::Fused } else { Level::Plain }
});

impl<'a> View<'a> {
    /// Rows that follow each other without a gap.
    pub(super) fn dense(numbers: &'a [f32], columns: usize) -> Self {
        let rows = numbers.len() / columns;
        Self { numbers, rows, columns, row_step: columns, column_step: 1 }
    }

    /// The same with rows as columns.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

impl<E: Element> Packed<E> {
    pub(super) fn new(matrix: View<'_>) -> Self {
        let mut packed = Self::default();
        packed.pack(matrix);
        packed
    }

    /// Takes another matrix, in the memory of the one before.
    pub(super) fn pack(&mut self, matrix: View<'_>) {
        let View { numbers, rows, columns, row_step, column_step } = matrix;
        (self.rows, self.columns) = (rows, columns);
        let elements = rows.div_ceil(E::NUMBERS);
        self.panels.clear();
        self.panels.resize(columns.div_ceil(PANEL) * elements * PANEL, E::default());
        for (number, panel) in self.panels.chunks_exact_mut(elements * PANEL).enumerate() {
            let first = number * PANEL;
            let width = PANEL.min(columns - first);
            for row in 0..rows {
                let packed = &mut panel[row / E::NUMBERS * PANEL..][..width];
                let source = &numbers[row * row_step + first * column_step..];
                for (packed, number) in packed.iter_mut().zip(source.iter().step_by(column_step)) {
                    packed.set(row % E::NUMBERS, *number);
                }
            }
        }
    }

    /// All columns.
    pub(super) fn all(&self) -> Columns<'_, E> {
        Columns { panels: &self.panels, rows: self.rows, count: self.columns }
    }

    /// The columns in so many parts, or fewer, which follow each other.
    pub(super) fn parts(&self, parts: usize) -> impl Iterator<Item = Columns<'_, E>> {
        let panels = self.columns.div_ceil(PANEL).div_ceil(parts);
        let most = panels * PANEL;
        self.panels.chunks(self.rows.div_ceil(E::NUMBERS) * most).enumerate().map(
            move |(number, panels)| {
                let count = most.min(self.columns - number * most);
                Columns { panels, rows: self.rows, count }
            },
        )
    }
}

impl<E: Element> Columns<'_, E> {
    /// `out = left × self`, where a row of `left` has no gaps. `tiles` is working memory.
    pub(super) fn product(self, left: View<'_>, out: Out<'_>, tiles: &mut Tiles) {
        debug_assert_eq!((left.columns, left.column_step), (self.rows, 1), "the factors fit");
        E::product(self, left, out, tiles);
    }
}

impl Element for f32 {
    const NUMBERS: usize = 1;

    #[inline(always)]
    fn set(&mut self, _: usize, number: f32) {
        *self = number;
    }

    #[inline(always)]
    fn row<'a>(numbers: &'a [f32], _: &'a mut [Self; DEPTH]) -> &'a [Self] {
        numbers
    }

    fn product(right: Columns<'_, f32>, left: View<'_>, out: Out<'_>, tiles: &mut Tiles) {
        let tiles = &mut tiles.numbers;
        match *LEVEL {
            Level::Avx512 => product_avx512(right, left, out, tiles),
            Level::Fused => product_fused(right, left, out, tiles),
            Level::Plain => product(right, left, out, tiles, multiply::<4, false>),
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq"))]
fn product_avx512<'a>(
    right: Columns<'a, f32>,
    left: View<'a>,
    out: Out<'a>,
    tiles: &'a mut Vec<f32>,
) {
    product(right, left, out, tiles, multiply::<8, true>);
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn product_fused<'a>(
    right: Columns<'a, f32>,
    left: View<'a>,
    out: Out<'a>,
    tiles: &'a mut Vec<f32>,
) {
    product(right, left, out, tiles, multiply::<3, true>);
}

/// Tiles of `ROWS` rows and [`PANEL`] columns, each of which `multiply` computes from `ROWS` rows and a panel.
#[inline(always)]
fn product<E: Element, const ROWS: usize>(
    right: Columns<'_, E>,
    left: View<'_>,
    out: Out<'_>,
    tiles: &mut Vec<E>,
    multiply: impl Fn(&[[E; ROWS]], &[[E; PANEL]]) -> [[f32; PANEL]; ROWS],
) {
    let Out { numbers, step } = out;
    let elements = right.rows.div_ceil(E::NUMBERS);
    for start in (0..elements).step_by(DEPTH) {
        let depth = DEPTH.min(elements - start);
        pack_tiles::<E, ROWS>(left, start, depth, tiles);
        for (number, panel) in right.panels.chunks_exact(elements * PANEL).enumerate() {
            let first = number * PANEL;
            let width = PANEL.min(right.count - first);
            let (panel, _) = panel[start * PANEL..][..depth * PANEL].as_chunks::<PANEL>();
            for (number, tile) in tiles.chunks_exact(depth * ROWS).enumerate() {
                let row = number * ROWS;
                let (tile, _) = tile.as_chunks::<ROWS>();
                let sums = multiply(tile, panel);
                let rows = ROWS.min(left.rows - row);
                for (offset, sums) in sums[..rows].iter().enumerate() {
                    let out = &mut numbers[(row + offset) * step + first..][..width];
                    if start == 0 {
                        out.copy_from_slice(&sums[..width]);
                    } else {
                        for (out, sum) in out.iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        }
    }
}

/// The columns of the elements `start..start + depth` of `left`'s rows, in tiles of `ROWS` rows, each `[depth, ROWS]`;
/// what is beyond the last row and the last column is 0.
#[inline(always)]
fn pack_tiles<E: Element, const ROWS: usize>(
    left: View<'_>,
    start: usize,
    depth: usize,
    tiles: &mut Vec<E>,
) {
    let columns = start * E::NUMBERS..left.columns.min((start + depth) * E::NUMBERS);
    tiles.clear();
    tiles.resize(left.rows.div_ceil(ROWS) * depth * ROWS, E::default());
    let mut buffer = [E::default(); DEPTH];
    for (number, tile) in tiles.chunks_exact_mut(depth * ROWS).enumerate() {
        let (tile, _) = tile.as_chunks_mut::<ROWS>();
        let row = number * ROWS;
        for offset in 0..ROWS.min(left.rows - row) {
            let source = &left.numbers[(row + offset) * left.row_step..][columns.clone()];
            for (packed, element) in tile.iter_mut().zip(E::row(source, &mut buffer)) {
                packed[offset] = *element;
            }
        }
    }
}

/// The innermost loop, with fused multiplication and addition where that is one instruction.
#[inline(always)]
fn multiply<const ROWS: usize, const FUSED: bool>(
    tile: &[[f32; ROWS]],
    panel: &[[f32; PANEL]],
) -> [[f32; PANEL]; ROWS] {
    let mut sums = [[0.0_f32; PANEL]; ROWS];
    for (column, row) in tile.iter().zip(panel) {
        for (sums, left) in sums.iter_mut().zip(column) {
            // Taken out and put back, or else the compiler leaves them in memory.
            let mut next = *sums;
            for (sum, right) in next.iter_mut().zip(row) {
                *sum = if FUSED { left.mul_add(*right, *sum) } else { left * right + *sum };
            }
            *sums = next;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::pair::{self, Pair};
    use super::{
        Columns, Element, Out, Packed, Tiles, View, multiply, product, product_avx512,
        product_fused,
    };

    /// A way to compute a product.
    type Way<E> = for<'a> fn(Columns<'a, E>, View<'a>, Out<'a>, &'a mut Vec<E>);

    /// Of some columns, how many they are and the rows of their product.
    type Part = (usize, Vec<f32>);

    /// The whole product by each of `ways`, and the product in parts.
    fn products<E: Element>(
        left: View<'_>,
        right: View<'_>,
        step: usize,
        ways: &[Way<E>],
    ) -> (Vec<Vec<f32>>, Vec<Part>) {
        let packed = Packed::new(right);
        let by = |way: &Way<E>| {
            let mut numbers = vec![0.5; left.rows * step];
            way(packed.all(), left, Out { numbers: &mut numbers, step }, &mut Vec::new());
            numbers
        };
        let part = |part: Columns<'_, E>| {
            let mut numbers = vec![0.0; left.rows * part.count];
            let out = Out { numbers: &mut numbers, step: part.count };
            part.product(left, out, &mut Tiles::default());
            (part.count, numbers)
        };
        (ways.iter().map(by).collect(), packed.parts(3).map(part).collect())
    }

    /// Numbers whose products are exact, so that every order of adding them up gives the same.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|n| f32::from(u8::try_from((n * 7 + seed) % 11).unwrap()) - 5.0).collect()
    }

    proptest! {
        #[test]
        fn every_size_is_multiplied_rightly_and_nothing_beside_it_is_touched(
            rows in 1_usize..20, inner in 1_usize..600, columns in 1_usize..70, gap in 0_usize..5,
            transposed: bool,
        ) {
            let left = numbers(rows * (inner + gap), 1);
            let right = numbers(inner * columns, 2);
            let view = View { numbers: &left, rows, columns: inner, row_step: inner + gap, column_step: 1 };
            let right = if transposed {
                View::dense(&right, inner).transposed()
            } else {
                View::dense(&right, columns)
            };
            let at = |view: View<'_>, row, column| {
                view.numbers[row * view.row_step + column * view.column_step]
            };
            let step = columns + gap;
            let mut expected = vec![0.5; rows * step];
            for row in 0..rows {
                for column in 0..columns {
                    let sum = (0..inner).map(|n| at(view, row, n) * at(right, n, column)).sum();
                    expected[row * step + column] = sum;
                }
            }
            // Each way of computing it is right on every processor, if not fast.
            let plain: Way<f32> = |right, left, out, tiles| product(right, left, out, tiles, multiply::<4, false>);
            let of_numbers = products(view, right, step, &[product_avx512, product_fused, plain]);
            let plain: Way<Pair> = |right, left, out, tiles| product(right, left, out, tiles, pair::multiply::<4, false>);
            let of_pairs = products(view, right, step, &[pair::product_fused, plain]);
            for numbers in of_numbers.0.iter().chain(&of_pairs.0) {
                prop_assert_eq!(numbers, &expected);
            }
            for parts in [of_numbers.1, of_pairs.1] {
                let mut first = 0;
                for (count, numbers) in parts {
                    for (row, expected) in numbers.chunks_exact(count).zip(expected.chunks(step)) {
                        prop_assert_eq!(row, &expected[first..][..count]);
                    }
                    first += count;
                }
                prop_assert_eq!(first, columns);
            }
        }
    }
}

//! Matrix products whose right factor is packed beforehand.
//!
//! The scheme is that of `GotoBLAS` (Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication"): the right factor is packed in panels of [`PANEL`] columns, the left factor in
//! tiles of a few rows, and the innermost loop keeps a tile of the product in registers. Weights
//! are packed only once, when the model is loaded; other libraries pack them for every product.

use std::iter;
use std::ops::Range;
use std::slice::ChunksMut;

use crate::simd::{self, Kernel, Level, Vectors};

/// Number of columns of the right factor that are packed together: two vectors of the widest kind.
pub(crate) const PANEL: usize = 32;

/// Most rows of the right factor, in elements, that are multiplied in one pass. The limit keeps
/// their part of a panel in the level 1 cache.
pub(crate) const DEPTH: usize = 384;

/// A matrix in a slice: the number at `(row, column)` is `numbers[row * row_step + column *
/// column_step]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_step: usize,
    pub(crate) column_step: usize,
}

/// An element of a packed matrix: one number, or several that one instruction multiplies.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Number of numbers in an element; a power of two.
    const NUMBERS: usize;

    /// Replaces the element's number at `index`.
    fn set(&mut self, index: usize, number: f32);

    /// Converts a row of at most `DEPTH * NUMBERS` numbers to elements. Uses `buffer` only if an
    /// element is not just an `f32`.
    fn row<'a>(numbers: &'a [f32], buffer: &'a mut [Self; DEPTH]) -> &'a [Self];

    /// Returns the part of the working memory that holds elements of this type.
    fn tiles(tiles: &mut Tiles) -> &mut Vec<Self>;

    /// Computes the product of all tiles and a panel.
    fn multiply(product: PanelProduct<'_, Self>);
}

/// A matrix that is packed as the right factor of products.
#[derive(Default)]
pub(crate) struct Packed<E> {
    /// The panels one after the other, each `[elements, PANEL]`. An element holds consecutive rows
    /// of one column. Numbers beyond the last row and the last column are zero.
    panels: Vec<PanelRow<E>>,
    rows: usize,
    columns: usize,
}

/// A row of a panel, aligned so that no vector crosses a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct PanelRow<E>(pub(crate) [E; PANEL]);

/// A packed matrix, or some consecutive columns of it.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, E> {
    panels: &'a [PanelRow<E>],
    rows: usize,
    pub(crate) count: usize,
}

/// Working memory for the left factor of a product, packed in tiles.
#[derive(Default)]
pub(crate) struct Tiles {
    pub(crate) numbers: Vec<f32>,
    pub(crate) pairs: Vec<u32>,
}

/// The destination of a product: rows that begin `step` numbers apart.
pub(crate) struct Out<'a> {
    pub(crate) numbers: &'a mut [f32],
    pub(crate) step: usize,
}

/// The product of a left factor in tiles and a part of a panel.
pub(crate) struct PanelProduct<'a, E> {
    /// The left factor, `[tiles, depth, rows of a tile]`. If the last tile has fewer rows, the
    /// missing ones are zero.
    pub(crate) tiles: &'a [E],
    /// The right factor, `[depth, PANEL]`.
    pub(crate) panel: &'a [PanelRow<E>],
    pub(crate) depth: usize,
    /// The destination, which begins at the panel's first column of the first row.
    pub(crate) out: Out<'a>,
    /// Number of columns of the panel that belong to the matrix; the others are zero.
    pub(crate) width: usize,
    /// Whether the product is added to the numbers in `out` instead of replacing them.
    pub(crate) accumulate: bool,
}

impl<'a> View<'a> {
    /// Returns a view of rows without gaps between them.
    pub(crate) fn dense(numbers: &'a [f32], columns: usize) -> Self {
        let rows = numbers.len() / columns;
        Self { numbers, rows, columns, row_step: columns, column_step: 1 }
    }

    /// Returns the transposed matrix.
    pub(crate) fn transposed(self) -> Self {
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
    pub(crate) fn new(matrix: View<'_>) -> Self {
        let mut packed = Self::default();
        packed.pack(matrix);
        packed
    }

    /// Packs another matrix in the same memory.
    pub(crate) fn pack(&mut self, matrix: View<'_>) {
        let View { numbers, rows, columns, row_step, column_step } = matrix;
        self.rows = rows;
        self.columns = columns;
        let elements = rows.div_ceil(E::NUMBERS);
        self.panels.clear();
        self.panels.resize(columns.div_ceil(PANEL) * elements, PanelRow([E::default(); PANEL]));
        for (number, panel) in self.panels.chunks_exact_mut(elements).enumerate() {
            let first = number * PANEL;
            let width = PANEL.min(columns - first);
            for row in 0..rows {
                let packed = &mut panel[row / E::NUMBERS].0[..width];
                let source = &numbers[row * row_step + first * column_step..];
                for (packed, number) in iter::zip(packed, source.iter().step_by(column_step)) {
                    packed.set(row % E::NUMBERS, *number);
                }
            }
        }
    }

    /// Returns all columns.
    pub(crate) fn all(&self) -> Columns<'_, E> {
        Columns { panels: &self.panels, rows: self.rows, count: self.columns }
    }

    /// Divides the columns into at most `parts` consecutive parts.
    pub(crate) fn parts(&self, parts: usize) -> impl Iterator<Item = Columns<'_, E>> {
        let panels = self.columns.div_ceil(PANEL).div_ceil(parts);
        let most = panels * PANEL;
        self.panels.chunks(self.rows.div_ceil(E::NUMBERS) * panels).enumerate().map(
            move |(number, panels)| {
                let count = most.min(self.columns - number * most);
                Columns { panels, rows: self.rows, count }
            },
        )
    }
}

impl<E: Element> Columns<'_, E> {
    /// Writes `left × self` to `out`. `left.column_step` must be 1.
    pub(crate) fn product(self, left: View<'_>, out: Out<'_>, tiles: &mut Tiles) {
        debug_assert_eq!(
            (left.columns, left.column_step),
            (self.rows, 1),
            "the factors' sizes match"
        );
        let Out { numbers, step } = out;
        let tiles = E::tiles(tiles);
        let elements = self.rows.div_ceil(E::NUMBERS);
        for start in (0..elements).step_by(DEPTH) {
            let depth = DEPTH.min(elements - start);
            pack_tiles(left, start, depth, tiles);
            for (number, panel) in self.panels.chunks_exact(elements).enumerate() {
                let first = number * PANEL;
                E::multiply(PanelProduct {
                    tiles,
                    panel: &panel[start..][..depth],
                    depth,
                    out: Out { numbers: &mut numbers[first..], step },
                    width: PANEL.min(self.count - first),
                    accumulate: start > 0,
                });
            }
        }
    }
}

/// Packs some columns of `left` in tiles: those that are multiplied by the elements `start..start +
/// depth` of the right factor.
fn pack_tiles<E: Element>(left: View<'_>, start: usize, depth: usize, tiles: &mut Vec<E>) {
    let columns = start * E::NUMBERS..left.columns.min((start + depth) * E::NUMBERS);
    let [tile_rows, _] = tile(Level::best().lanes());
    tiles.clear();
    tiles.resize(left.rows.div_ceil(tile_rows) * depth * tile_rows, E::default());
    let zeros = [E::default(); DEPTH];
    let mut buffers = [zeros; MAX_TILE_ROWS];
    for (number, tile) in tiles.chunks_exact_mut(depth * tile_rows).enumerate() {
        let first = number * tile_rows;
        let mut rows = [&zeros[..]; MAX_TILE_ROWS];
        for (row, (to, buffer)) in
            (first..left.rows).zip(iter::zip(&mut rows[..tile_rows], &mut buffers))
        {
            let source = &left.numbers[row * left.row_step..][columns.clone()];
            *to = E::row(source, buffer);
        }
        match tile_rows {
            8 => interleave(rows.first_chunk::<8>(), tile),
            6 => interleave(rows.first_chunk::<6>(), tile),
            rows => unreachable!("no tile has {rows} rows"),
        }
    }
}

/// Writes the first element of all rows, then the second one of all rows, and so on.
fn interleave<E: Copy, const ROWS: usize>(rows: Option<&[&[E]; ROWS]>, tile: &mut [E]) {
    let Some(rows) = rows else { unreachable!("`rows` has MAX_TILE_ROWS elements") };
    let (tile, _) = tile.as_chunks_mut::<ROWS>();
    let rows = rows.map(|row| &row[..tile.len()]);
    for (index, column) in tile.iter_mut().enumerate() {
        *column = rows.map(|row| row[index]);
    }
}

/// Most rows of a tile on any processor.
const MAX_TILE_ROWS: usize = 8;

/// Returns the rows and columns of a tile for vectors of `lanes` numbers.
///
/// A tile has an upper and a lower limit. Its sums, one row of the panel and one number of the left
/// factor must fit into the vector registers: 32 with AVX-512, 16 with AVX2 or no extension. And a
/// multiplication that adds to a sum waits for the previous one on the same sum, so there must be
/// at least as many vectors of sums as the processor can compute at a time (latency times
/// multiplications per cycle).
pub(crate) const fn tile(lanes: usize) -> [usize; 2] {
    match lanes {
        16 => [8, 32],
        _ => [6, 2 * lanes],
    }
}

impl Element for f32 {
    const NUMBERS: usize = 1;

    fn set(&mut self, _: usize, number: f32) {
        *self = number;
    }

    fn row<'a>(numbers: &'a [f32], _: &'a mut [Self; DEPTH]) -> &'a [Self] {
        numbers
    }

    fn tiles(tiles: &mut Tiles) -> &mut Vec<Self> {
        &mut tiles.numbers
    }

    fn multiply(product: PanelProduct<'_, Self>) {
        simd::run(product);
    }
}

impl Kernel for PanelProduct<'_, f32> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        match V::F32_LANES {
            16 => multiply::<V, { tile(16)[0] }, { tile(16)[1] / 16 }>(simd, self),
            8 => multiply::<V, { tile(8)[0] }, { tile(8)[1] / 8 }>(simd, self),
            4 => multiply::<V, { tile(4)[0] }, { tile(4)[1] / 4 }>(simd, self),
            lanes => unreachable!("no processor has vectors of {lanes} numbers"),
        }
    }
}

#[inline(always)]
fn multiply<V: Vectors, const ROWS: usize, const VECTORS: usize>(
    simd: V,
    product: PanelProduct<'_, f32>,
) {
    let PanelProduct { tiles, panel, depth, out, width, accumulate } = product;
    let columns = VECTORS * V::F32_LANES;
    for first in (0..width).step_by(columns) {
        let last = width.min(first + columns);
        for (number, tile) in tiles.chunks_exact(depth * ROWS).enumerate() {
            let tile = tile.as_chunks().0;
            let sums = multiply_tile::<V, ROWS, VECTORS>(simd, tile, panel, first / columns);
            let rows = out.numbers[number * ROWS * out.step..].chunks_mut(out.step);
            write(simd, &sums, rows, first..last, accumulate);
        }
    }
}

/// Returns the product of a tile, `[depth, ROWS]`, and one strip of a panel: `VECTORS` vectors of
/// each of its rows.
#[inline(always)]
fn multiply_tile<V: Vectors, const ROWS: usize, const VECTORS: usize>(
    simd: V,
    tile: &[[f32; ROWS]],
    panel: &[PanelRow<f32>],
    strip: usize,
) -> [[V::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (left, PanelRow(right)) in iter::zip(tile, panel) {
        let (right, _) = simd::split::<V>(right);
        let Some(right) = right.as_chunks::<VECTORS>().0.get(strip) else { break };
        for (sums, left) in iter::zip(&mut sums, left) {
            // A local copy, because otherwise the compiler keeps the sums in memory instead of
            // registers.
            let mut next = *sums;
            for (sum, right) in iter::zip(&mut next, right) {
                *sum = simd.multiply_add(simd.splat_f32s(*left), *right, *sum);
            }
            *sums = next;
        }
    }
    sums
}

/// Writes a tile to the given columns of `rows`, or adds it to the numbers there if `accumulate` is
/// set. If there are fewer `rows` than rows of the tile, the rest of the tile is dropped.
#[inline(always)]
pub(crate) fn write<V: Vectors, const ROWS: usize, const VECTORS: usize>(
    simd: V,
    sums: &[[V::f32s; VECTORS]; ROWS],
    rows: ChunksMut<'_, f32>,
    columns: Range<usize>,
    accumulate: bool,
) {
    for (row, sums) in iter::zip(rows, sums) {
        let (vectors, rest) = simd::split_mut::<V>(&mut row[columns.clone()]);
        let whole = vectors.len();
        for (out, sum) in iter::zip(vectors, sums) {
            *out = if accumulate { simd.add_f32s(*out, *sum) } else { *sum };
        }
        if !rest.is_empty() {
            let old = if accumulate { simd.partial_load_f32s(rest) } else { simd.splat_f32s(0.0) };
            simd.partial_store_f32s(rest, simd.add_f32s(old, sums[whole]));
        }
    }
}

#[cfg(test)]
mod tests;

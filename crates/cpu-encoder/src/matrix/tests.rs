use proptest::prelude::*;

use super::{
    Columns, DEPTH, Element, Out, PANEL, Packed, PanelProduct, PanelRow, Tiles, View, pack_tiles,
    tile,
};
use crate::bf16::pair;
use crate::simd::Level;

/// The products with each part of a packed matrix's columns: the number of columns, and the result.
type Parts = Vec<(usize, Vec<f32>)>;

/// Computes a product in at most three parts, each for some of the columns. The results have no
/// gaps between their rows.
fn in_parts<E: Element>(left: View<'_>, right: View<'_>) -> Parts {
    let multiply = |part: Columns<'_, E>| {
        let mut numbers = vec![0.0; left.rows * part.count];
        let out = Out { numbers: &mut numbers, step: part.count };
        part.product(left, out, &mut Tiles::default());
        (part.count, numbers)
    };
    Packed::<E>::new(right).parts(3).map(multiply).collect()
}

/// Computes a product as a whole. Its rows begin `step` numbers apart, and the gaps between them
/// contain 0.5.
fn whole<E: Element>(left: View<'_>, right: View<'_>, step: usize) -> Vec<f32> {
    let mut numbers = vec![0.5; left.rows * step];
    let out = Out { numbers: &mut numbers, step };
    Packed::<E>::new(right).all().product(left, out, &mut Tiles::default());
    numbers
}

/// Returns small integers. The sums of their products are exact, in whatever order they are added.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|n| f32::from(u8::try_from((n * 7 + seed) % 11).unwrap()) - 5.0).collect()
}

proptest! {
    #[test]
    fn products_of_every_size_are_right_and_leave_the_gaps_between_rows_unchanged(
        rows in 1_usize..20, inner in 1_usize..1_000, columns in 1_usize..70, gap in 0_usize..5,
        transposed: bool,
    ) {
        let left = numbers(rows * (inner + gap), 1);
        let right = numbers(inner * columns, 2);
        let left = View { numbers: &left, rows, columns: inner, row_step: inner + gap, column_step: 1 };
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
                let sum = (0..inner).map(|n| at(left, row, n) * at(right, n, column)).sum();
                expected[row * step + column] = sum;
            }
        }
        prop_assert_eq!(&whole::<f32>(left, right, step), &expected);
        prop_assert_eq!(&whole::<u32>(left, right, step), &expected);
        for parts in [in_parts::<f32>(left, right), in_parts::<u32>(left, right)] {
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

    #[test]
    fn every_generation_of_vectors_gives_the_same_product(
        rows in 1_usize..20, depth in 1_usize..DEPTH, width in 1_usize..=PANEL, accumulate: bool,
    ) {
        let left = numbers(rows * depth, 3);
        let panel = numbers(depth * PANEL, 4);
        let (panel, _) = panel.as_chunks::<PANEL>();
        let single: Vec<_> = panel.iter().map(|row| PanelRow(*row)).collect();
        let pairs: Vec<_> = panel.iter().map(|row| PanelRow(row.map(|right| pair(right, -right)))).collect();
        // The pairs are `(left, -1)` and `(right, -right)`. Their product is `left * right +
        // right`, which is `(left + 1) * right`.
        let mut expected = [vec![1.0; rows * PANEL], vec![1.0; rows * PANEL]];
        for (row, left) in left.chunks_exact(depth).enumerate() {
            for column in 0..width {
                let of = |added| left.iter().zip(panel).map(|(left, right)| (left + added) * right[column]).sum::<f32>();
                let old = if accumulate { 1.0 } else { 0.0 };
                expected[0][row * PANEL + column] = old + of(0.0);
                expected[1][row * PANEL + column] = old + of(1.0);
            }
        }
        for level in Level::available() {
            let tiles = in_tiles(&left, depth, tile(level.lanes())[0]);
            let mut found = [vec![1.0; rows * PANEL], vec![1.0; rows * PANEL]];
            let [first, second] = &mut found;
            let out = Out { numbers: first, step: PANEL };
            level.run(PanelProduct { tiles: &tiles, panel: &single, depth, out, width, accumulate });
            let tiles: Vec<_> = tiles.iter().map(|&number| pair(number, -1.0)).collect();
            let out = Out { numbers: second, step: PANEL };
            level.run(PanelProduct { tiles: &tiles, panel: &pairs, depth, out, width, accumulate });
            prop_assert_eq!(&found, &expected, "{:?}", level);
        }
    }
}

/// Packs rows of `depth` numbers in tiles of `tile_rows` rows, as [`pack_tiles`] does.
fn in_tiles(rows: &[f32], depth: usize, tile_rows: usize) -> Vec<f32> {
    let count = rows.len() / depth;
    let mut tiles = vec![0.0; count.div_ceil(tile_rows) * depth * tile_rows];
    for (row, numbers) in rows.chunks_exact(depth).enumerate() {
        let tile = &mut tiles[row / tile_rows * depth * tile_rows..];
        for (place, number) in numbers.iter().enumerate() {
            tile[place * tile_rows + row % tile_rows] = *number;
        }
    }
    tiles
}

#[test]
fn a_tile_has_zeros_beyond_the_last_row_and_the_last_number() {
    let left = numbers(3, 1);
    let mut tiles = vec![7; 100];
    pack_tiles::<u32>(View::dense(&left, 3), 0, 2, &mut tiles);
    let [rows, _] = tile(Level::best().lanes());
    assert_eq!(tiles.len(), 2 * rows);
    assert_eq!(tiles[0], pair(left[0], left[1]));
    assert_eq!(tiles[rows], pair(left[2], 0.0));
    assert!((0..2).all(|element| tiles[element * rows + 1..][..rows - 1].iter().all(|&x| x == 0)));
}

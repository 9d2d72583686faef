//! `Pair`: two bf16 numbers, which new processors multiply with two others and add up in one instruction.
//!
//! All unsafe code of the crate is here: that instruction has no safe form, and the compiler does not find it by itself.

use multiversion::multiversion;

use super::{Columns, DEPTH, Element, LEVEL, Level, Out, PANEL, Tiles, View, product};

/// Numbers of two rows of the right factor, or of two columns of the left one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(transparent)]
pub(in crate::cpu) struct Pair(u32);

impl Pair {
    #[inline(always)]
    fn new(first: f32, second: f32) -> Self {
        Self(narrow(first) | narrow(second) << 16)
    }

    #[inline(always)]
    fn widen(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }
}

/// The nearest bf16, of two that are as near the even one. Without a branch, so that many are converted at once.
#[inline(always)]
fn narrow(number: f32) -> u32 {
    const NAN: u32 = 0x7fc0;
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if number.is_nan() { NAN } else { rounded }
}

/// Whether the processor has the instruction; without it, pairs are slower than single numbers.
pub(in crate::cpu) fn has_dot_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bf16") && matches!(*LEVEL, Level::Avx512)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

impl Element for Pair {
    const NUMBERS: usize = 2;

    #[inline(always)]
    fn set(&mut self, place: usize, number: f32) {
        let mut both = self.widen();
        both[place] = number;
        *self = Self::new(both[0], both[1]);
    }

    #[inline(always)]
    fn row<'a>(numbers: &'a [f32], buffer: &'a mut [Self; DEPTH]) -> &'a [Self] {
        let (pairs, last) = numbers.as_chunks::<2>();
        for (pair, [first, second]) in buffer.iter_mut().zip(pairs) {
            *pair = Self::new(*first, *second);
        }
        if let [last] = last {
            buffer[pairs.len()] = Self::new(*last, 0.0);
        }
        &buffer[..pairs.len() + last.len()]
    }

    fn product(right: Columns<'_, Self>, left: View<'_>, out: Out<'_>, tiles: &mut Tiles) {
        let tiles = &mut tiles.pairs;
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { product_dot(right, left, out, tiles) };
        }
        match *LEVEL {
            Level::Avx512 | Level::Fused => product_fused(right, left, out, tiles),
            Level::Plain => product(right, left, out, tiles, multiply::<4, false>),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16")]
fn product_dot(right: Columns<'_, Pair>, left: View<'_>, out: Out<'_>, tiles: &mut Vec<Pair>) {
    product(right, left, out, tiles, |tile: &[[Pair; 8]], panel| multiply_dot(tile, panel));
}

#[multiversion(targets("x86_64+avx2+fma"))]
pub(super) fn product_fused<'a>(
    right: Columns<'a, Pair>,
    left: View<'a>,
    out: Out<'a>,
    tiles: &'a mut Vec<Pair>,
) {
    product(right, left, out, tiles, multiply::<3, true>);
}

/// The innermost loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bf16")]
#[inline]
fn multiply_dot<const ROWS: usize>(
    tile: &[[Pair; ROWS]],
    panel: &[[Pair; PANEL]],
) -> [[f32; PANEL]; ROWS] {
    use std::arch::x86_64::{
        __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };
    const LANES: usize = 16;
    const { assert!(PANEL == 2 * LANES, "a row of a panel is two registers") };
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (column, row) in tile.iter().zip(panel) {
        let right = [0, LANES].map(|first| -> __m512bh {
            // SAFETY: there are 16 pairs from either place on, a pair is 32 bits that may be anything, and both types
            // are 512 bits that may be.
            unsafe { std::mem::transmute(_mm512_loadu_si512(row[first..].as_ptr().cast())) }
        });
        for (sums, pair) in sums.iter_mut().zip(column) {
            // SAFETY: both types are 512 bits that may be anything.
            let left: __m512bh =
                unsafe { std::mem::transmute(_mm512_set1_epi32(pair.0.cast_signed())) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, left, right);
            }
        }
    }
    let mut product = [[0.0; PANEL]; ROWS];
    for (row, [left, right]) in product.iter_mut().zip(sums) {
        // SAFETY: there are 16 numbers from either place on.
        unsafe {
            _mm512_storeu_ps(row.as_mut_ptr(), left);
            _mm512_storeu_ps(row[LANES..].as_mut_ptr(), right);
        }
    }
    product
}

/// The same for processors without the instruction, in f32.
#[inline(always)]
pub(super) fn multiply<const ROWS: usize, const FUSED: bool>(
    tile: &[[Pair; ROWS]],
    panel: &[[Pair; PANEL]],
) -> [[f32; PANEL]; ROWS] {
    let mut sums = [[0.0_f32; PANEL]; ROWS];
    for (column, row) in tile.iter().zip(panel) {
        for place in 0..2 {
            let row = row.map(|pair| pair.widen()[place]);
            for (sums, left) in sums.iter_mut().zip(column) {
                let left = left.widen()[place];
                let mut next = *sums;
                for (sum, right) in next.iter_mut().zip(row) {
                    *sum = if FUSED { left.mul_add(right, *sum) } else { left * right + *sum };
                }
                *sums = next;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::{DEPTH, Element as _, Pair};

    proptest! {
        #[test]
        fn every_number_becomes_the_nearest(numbers in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..40)) {
            let mut buffer = [Pair::default(); DEPTH];
            let pairs = Pair::row(&numbers, &mut buffer);
            let found: Vec<_> = pairs.iter().flat_map(|pair| pair.widen()).collect();
            for (number, found) in numbers.iter().zip(&found) {
                let expected = bf16::from_f32(*number).to_f32();
                prop_assert!(expected.is_nan() && found.is_nan() || expected.to_bits() == found.to_bits());
            }
            prop_assert!(found[numbers.len()..].iter().all(|beyond| beyond.to_bits() == 0));
        }
    }
}

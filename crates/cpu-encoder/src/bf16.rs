//! Matrix products in bf16: numbers that are the upper 16 bits of an `f32`.
//!
//! A `u32` holds a pair of bf16 numbers. Processors with AVX512-BF16 have an instruction that
//! multiplies two pairs number by number and adds both products to a sum. All unsafe code of the
//! crate is here, because this instruction has no safe form yet.
//!
//! As in `matrix.rs`, a tile is a few rows of the left factor, packed together, and a panel is
//! `PANEL` columns of the right factor, packed together. Each element of both is a pair: two
//! consecutive numbers of a row of the left factor, or of a column of the right factor.

#![expect(unsafe_code, reason = "the instruction has no safe form")]

use std::iter;

use crate::matrix::{
    DEPTH, Element, Out, Packed, PanelProduct, PanelRow, Tiles, View, tile, write,
};
use crate::simd::{self, Kernel, Level, Vectors};

/// The bits of a bf16 NaN.
const NAN: u32 = 0x7fc0;

/// Rounds two numbers to the nearest bf16 and packs them, the first one in the lower half.
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    narrow(first) | narrow(second) << 16
}

/// Rounds a number to the nearest bf16. If two are equally near, rounds to the even one.
///
/// Has no branch, so that the compiler can convert several numbers at once.
fn narrow(number: f32) -> u32 {
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if number.is_nan() { NAN } else { rounded }
}

/// Packs consecutive numbers into `pairs`. If there is an odd count of them, the last pair is
/// filled up with a zero.
fn narrow_all(numbers: &[f32], pairs: &mut [u32]) {
    let (whole, last) = numbers.as_chunks::<2>();
    for (to, [first, second]) in iter::zip(&mut *pairs, whole) {
        *to = pair(*first, *second);
    }
    if let ([last], Some(to)) = (last, pairs.last_mut()) {
        *to = pair(*last, 0.0);
    }
}

/// Returns the two numbers of a pair as `f32`.
#[inline(always)]
fn widen(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// Returns whether products in bf16 are faster than in f32 on this processor, by timing both for
/// about a millisecond.
///
/// A processor that has the instruction for pairs need not be faster with it: AMD's processors
/// execute it at the rate of an f32 multiplication, but Intel's (Emerald Rapids) only at a quarter
/// of that rate.
#[must_use]
#[expect(
    clippy::disallowed_types,
    reason = "measures real elapsed time, so the pausable clock that the lint asks for is of no use"
)]
pub fn bf16_is_faster() -> bool {
    use std::time::{Duration, Instant};
    const ROWS: usize = 64;
    const WIDTH: usize = 256;
    fn time<E: Element>(right: &Packed<E>, left: &[f32], out: &mut [f32]) -> Duration {
        let started = Instant::now();
        let out = Out { numbers: out, step: WIDTH };
        right.all().product(View::dense(left, WIDTH), out, &mut Tiles::default());
        started.elapsed()
    }
    if !has_dot_products() {
        return false;
    }
    let numbers = vec![1.0; WIDTH * WIDTH];
    let left = &numbers[..ROWS * WIDTH];
    let mut out = vec![0.0; ROWS * WIDTH];
    let single = Packed::<f32>::new(View::dense(&numbers, WIDTH));
    let pairs = Packed::<u32>::new(View::dense(&numbers, WIDTH));
    // Takes the shortest of several times, because interruptions by other processes make the others
    // longer.
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..8 {
        shortest[0] = shortest[0].min(time(&single, left, &mut out));
        shortest[1] = shortest[1].min(time(&pairs, left, &mut out));
    }
    shortest[1] < shortest[0]
}

/// Returns whether the processor multiplies pairs in one instruction.
pub(crate) fn has_dot_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bf16") && matches!(Level::best(), Level::Avx512(_))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

impl Element for u32 {
    const NUMBERS: usize = 2;

    fn set(&mut self, index: usize, number: f32) {
        let mut both = widen(*self);
        both[index] = number;
        *self = pair(both[0], both[1]);
    }

    fn row<'a>(numbers: &'a [f32], buffer: &'a mut [Self; DEPTH]) -> &'a [Self] {
        let pairs = &mut buffer[..numbers.len().div_ceil(2)];
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            // SAFETY: the processor has the instructions that the function is compiled for.
            unsafe { dot::narrow(numbers, pairs) };
            return pairs;
        }
        narrow_all(numbers, pairs);
        pairs
    }

    fn tiles(tiles: &mut Tiles) -> &mut Vec<Self> {
        &mut tiles.pairs
    }

    fn multiply(product: PanelProduct<'_, Self>) {
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            // SAFETY: the processor has the instructions that the function is compiled for.
            return unsafe { dot::multiply(product) };
        }
        simd::run(product);
    }
}

/// The fallback for processors without the instruction: each pair is widened and multiplied in f32.
impl Kernel for PanelProduct<'_, u32> {
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
    product: PanelProduct<'_, u32>,
) {
    let PanelProduct { tiles, panel, depth, out, width, accumulate } = product;
    let columns = VECTORS * V::U32_LANES;
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

/// Multiplies one tile, `[depth, ROWS]`, by one strip of a panel, `VECTORS` vectors of each of its
/// rows, and returns the sums. The f32 version is `multiply_tile` in `matrix.rs`.
#[inline(always)]
fn multiply_tile<V: Vectors, const ROWS: usize, const VECTORS: usize>(
    simd: V,
    tile: &[[u32; ROWS]],
    panel: &[PanelRow<u32>],
    strip: usize,
) -> [[V::f32s; VECTORS]; ROWS] {
    let high = simd.splat_u32s(0xffff_0000);
    let shift = simd.splat_u32s(16);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (left, PanelRow(right)) in iter::zip(tile, panel) {
        let (right, _) = V::as_simd_u32s(right);
        let Some(right) = right.as_chunks::<VECTORS>().0.get(strip) else { break };
        for (sums, left) in iter::zip(&mut sums, left) {
            let [first, second] = widen(*left);
            let mut next = *sums;
            for (sum, right) in iter::zip(&mut next, right) {
                let low = simd.wrapping_dyn_shl_u32s(*right, shift);
                let low = simd.transmute_f32s_u32s(low);
                let high = simd.transmute_f32s_u32s(simd.and_u32s(*right, high));
                *sum = simd.multiply_add(simd.splat_f32s(first), low, *sum);
                *sum = simd.multiply_add(simd.splat_f32s(second), high, *sum);
            }
            *sums = next;
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod dot {
    //! Kernels for AVX512-BF16.

    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _CMP_UNORD_Q, _mm256_storeu_si256, _mm512_add_epi32,
        _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_epi16, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_mov_epi32,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_srli_epi32,
    };
    use std::iter;

    use crate::matrix::{PANEL, PanelProduct, PanelRow, tile};

    const LANES: usize = 16;
    const ROWS: usize = tile(LANES)[0];
    const VECTORS: usize = PANEL / LANES;

    /// Computes the product of all tiles of the left factor and one panel of the right factor.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn multiply(product: PanelProduct<'_, u32>) {
        let PanelProduct { tiles, panel, depth, out, width, accumulate } = product;
        for (number, tile) in tiles.chunks_exact(depth * ROWS).enumerate() {
            let (tile, _) = tile.as_chunks::<ROWS>();
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            for (left, PanelRow(right)) in iter::zip(tile, panel) {
                let (right, _) = right.as_chunks();
                let right: [__m512bh; VECTORS] = [load(&right[0]), load(&right[1])];
                for (sums, left) in iter::zip(&mut sums, left) {
                    let left = as_pairs(_mm512_set1_epi32(left.cast_signed()));
                    for (sum, right) in iter::zip(sums, right) {
                        *sum = _mm512_dpbf16_ps(*sum, left, right);
                    }
                }
            }
            let rows = out.numbers[number * ROWS * out.step..].chunks_mut(out.step);
            for (row, sums) in iter::zip(rows, &sums) {
                write(sums, &mut row[..width], accumulate);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(pairs: &[u32; LANES]) -> __m512bh {
        // SAFETY: a vector has as many bits as the array.
        as_pairs(unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn as_pairs(bits: __m512i) -> __m512bh {
        // SAFETY: both types have 512 bits, and all bits are valid in both.
        unsafe { std::mem::transmute(bits) }
    }

    /// Writes a row of a tile to `out`, or adds it to the numbers there if `accumulate` is set.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn write(sums: &[__m512; VECTORS], out: &mut [f32], accumulate: bool) {
        for (out, sum) in iter::zip(out.chunks_mut(LANES), sums) {
            let mask = u16::MAX >> (LANES - out.len());
            let to = out.as_mut_ptr();
            // SAFETY: the mask selects no lane beyond `out`.
            unsafe {
                let sum = if accumulate {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), *sum)
                } else {
                    *sum
                };
                _mm512_mask_storeu_ps(to, mask, sum);
            }
        }
    }

    /// Does the same as [`narrow_all`](super::narrow_all), with vector instructions.
    #[target_feature(enable = "avx512f")]
    pub(super) fn narrow(numbers: &[f32], pairs: &mut [u32]) {
        let (vectors, rest) = numbers.as_chunks::<LANES>();
        let (halves, last) = pairs.split_at_mut(vectors.len() * LANES / 2);
        let (halves, _) = halves.as_chunks_mut::<{ LANES / 2 }>();
        for (to, numbers) in iter::zip(halves, vectors) {
            // SAFETY: a vector has as many bits as each of the arrays.
            unsafe {
                let bits = _mm512_loadu_si512(numbers.as_ptr().cast());
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
                let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
                let values = _mm512_castsi512_ps(bits);
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
                let rounded = _mm512_mask_mov_epi32(
                    rounded,
                    nan,
                    _mm512_set1_epi32(super::NAN.cast_signed()),
                );
                _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(rounded));
            }
        }
        super::narrow_all(rest, last);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::{narrow_all, widen};
    use crate::matrix::{DEPTH, Element as _};

    proptest! {
        #[test]
        fn every_number_becomes_the_nearest_bf16(
            numbers in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..2 * DEPTH),
        ) {
            let mut buffer = [0; DEPTH];
            let plain = &mut [0; DEPTH][..numbers.len().div_ceil(2)];
            narrow_all(&numbers, plain);
            for pairs in [u32::row(&numbers, &mut buffer), plain] {
                let found: Vec<_> = pairs.iter().flat_map(|&pair| widen(pair)).collect();
                for (number, found) in numbers.iter().zip(&found) {
                    let expected = bf16::from_f32(*number).to_f32();
                    prop_assert!(expected.is_nan() && found.is_nan() || expected.to_bits() == found.to_bits());
                }
                prop_assert!(found[numbers.len()..].iter().all(|beyond| beyond.to_bits() == 0));
            }
        }
    }
}

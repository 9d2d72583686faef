//! What is done to single rows, written so that the compiler makes vector instructions of it.
//!
//! Each function that does work is compiled for several generations of x86-64, and the right one is chosen when it runs.
//! Sums are kept in [`LANES`] parts, and there is no call in a loop: those are what would keep it from that.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the instructions of its caller"
)]

use burn::tensor::Tensor;
use multiversion::multiversion;

use crate::encoder::Activation;

const LANES: usize = 16;

/// A tensor's numbers, in the order of its memory.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("weights are on the CPU and of this type")
}

/// `row += bias`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn add_bias(row: &mut [f32], bias: &[f32]) {
    for (value, bias) in row.iter_mut().zip(bias) {
        *value += bias;
    }
}

/// `row += more + bias`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn add(row: &mut [f32], more: &[f32], bias: &[f32]) {
    for ((value, more), bias) in row.iter_mut().zip(more).zip(bias) {
        *value += more + bias;
    }
}

/// To mean 0 and variance 1, then scaled and shifted.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn normalise(row: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    let share = 1.0 / count(row.len());
    let mean = sum(row, |value| value) * share;
    let variance = sum(row, |value| (value - mean) * (value - mean)) * share;
    let factor = 1.0 / (variance + epsilon).sqrt();
    for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *value = (*value - mean) * factor * scale + shift;
    }
}

/// `e^(scale * row)` as shares of one whole; `scale` is positive.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn softmax(row: &mut [f32], scale: f32) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, &value| larger(most, value));
    for value in row.iter_mut() {
        *value = exp((*value - most) * scale);
    }
    let factor = 1.0 / sum(row, |value| value);
    for value in row.iter_mut() {
        *value *= factor;
    }
}

/// `activation(row + bias)`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(super) fn activate(row: &mut [f32], bias: &[f32], activation: Activation) {
    let values = row.iter_mut().zip(bias);
    match activation {
        Activation::Gelu => values.for_each(|(value, bias)| *value = gelu(*value + bias)),
        Activation::GeluApproximate => {
            values.for_each(|(value, bias)| *value = gelu_approximate(*value + bias));
        }
        Activation::Relu => values.for_each(|(value, bias)| *value = larger(*value + bias, 0.0)),
        Activation::Tanh => values.for_each(|(value, bias)| *value = tanh(*value + bias)),
    }
}

/// The mean of `rows`, each of `width` numbers.
pub(super) fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    rows.chunks_exact(width).for_each(|row| add_bias(&mut mean, row));
    let share = count(width) / count(rows.len());
    for value in &mut mean {
        *value *= share;
    }
    mean
}

/// The largest of each column of `rows`, each of `width` numbers.
pub(super) fn max(rows: &[f32], width: usize) -> Vec<f32> {
    let mut max = vec![f32::NEG_INFINITY; width];
    for row in rows.chunks_exact(width) {
        for (most, &value) in max.iter_mut().zip(row) {
            *most = most.max(value);
        }
    }
    max
}

#[expect(clippy::cast_precision_loss, reason = "no row has 2^23 numbers")]
fn count(count: usize) -> f32 {
    count as f32
}

#[inline(always)]
fn sum(row: &[f32], part: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += part(value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&value| part(value)).sum::<f32>()
}

/// One instruction, unlike `f32::max`, which has rules for what is not a number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `e^x`, off by no more than 2 in the last place; 0 and infinity are not reached.
///
/// `x` is split in a multiple of ln 2, which makes the exponent, and a rest, whose power is a polynomial (Cephes).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added to a number this takes off what is behind the point, and has the rest in its lowest bits.
    const WHOLE: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = larger(-87.0, if x < 88.0 { x } else { 88.0 });
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let power = 1.987_569_1e-4;
    let power = power * rest + 1.398_199_9e-3;
    let power = power * rest + 8.333_452e-3;
    let power = power * rest + 4.166_579_6e-2;
    let power = power * rest + 1.666_666_5e-1;
    let power = power * rest + 0.5;
    let power = power * rest * rest + rest + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The error function, off by no more than 3e-7: a ratio of two polynomials, as Eigen has it.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = larger(-4.0, if x < 4.0 { x } else { 4.0 });
    let square = x * x;
    let above = -2.726_142_3e-10;
    let above = above * square + 2.770_681_4e-8;
    let above = above * square - 2.101_024e-6;
    let above = above * square - 5.692_506_4e-5;
    let above = above * square - 7.349_906_3e-4;
    let above = above * square - 2.954_6e-3;
    let above = above * square - 1.609_603_3e-2;
    let below = -1.456_607_2e-5;
    let below = below * square - 2.133_740_6e-4;
    let below = below * square - 1.682_827e-3;
    let below = below * square - 7.373_329e-3;
    let below = below * square - 1.426_474e-2;
    x * above / below
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_approximate(x: f32) -> f32 {
    // The square root of 2/π.
    const FACTOR: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(FACTOR * (x + 0.044_715 * x * x * x)))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use proptest::prelude::*;

    use super::{activate, exp, normalise, softmax, values};
    use crate::encoder::Activation;

    /// Rows of any length, so that whole vectors and what is left over are both seen.
    fn rows() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-20.0_f32..20.0, 1..70)
    }

    fn assert_near(found: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
        for (&found, expected) in found.iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() <= tolerance, "{found} {expected}");
        }
    }

    proptest! {
        #[test]
        fn activations_are_those_of_burn(row in rows()) {
            use Activation::{Gelu, GeluApproximate, Relu, Tanh};
            for activation in [Gelu, GeluApproximate, Relu, Tanh] {
                let mut found = row.clone();
                activate(&mut found, &vec![0.5; row.len()], activation);
                let tensor = Tensor::<1>::from_floats(row.as_slice(), &Device::flex()) + 0.5;
                let expected = values(activation.forward(tensor));
                assert_near(&found, expected.into_iter().map(f64::from), 4e-6);
            }
        }

        #[test]
        fn softmax_makes_shares(row in rows()) {
            let mut found = row.clone();
            softmax(&mut found, 0.5);
            let powers: Vec<_> = row.iter().map(|&value| (0.5 * f64::from(value)).exp()).collect();
            let whole: f64 = powers.iter().sum();
            assert_near(&found, powers.into_iter().map(|power| power / whole), 1e-6);
        }

        #[test]
        fn a_normal_row_has_mean_0_and_variance_1(row in rows(), epsilon in 1e-12_f32..1e-3) {
            let mut found = row.clone();
            normalise(&mut found, &vec![2.0; row.len()], &vec![0.25; row.len()], epsilon);
            let row: Vec<_> = row.into_iter().map(f64::from).collect();
            #[expect(clippy::cast_precision_loss, reason = "rows are short")]
            let count = row.len() as f64;
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let factor = 2.0 / (variance + f64::from(epsilon)).sqrt();
            // What is lost when the mean is taken off is enlarged with what is left.
            let tolerance = 1e-5 * factor.max(1.0) + 1e-5;
            assert_near(&found, row.iter().map(|value| (value - mean) * factor + 0.25), tolerance);
        }

        #[test]
        fn powers_are_right_to_the_last_places(x in -87.0_f32..88.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / expected - 1.0).abs() < 3e-7, "{} {}", exp(x), expected);
        }
    }

    #[test]
    fn what_lies_beyond_does_no_harm() {
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
        let mut row = [1e9, 0.0, -1e9];
        softmax(&mut row, 1.0);
        assert!((row[0] - 1.0).abs() < 1e-6 && row[1] < 1e-30 && row[2] < 1e-30, "{row:?}");
    }
}

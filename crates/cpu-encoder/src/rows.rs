//! Passes over the rows of a matrix: bias, normalisation, softmax, activations, pooling.

use std::iter;

use crate::simd::{self, Kernel, Vectors, load_rest, split, split_mut};
use crate::weights::Activation;

/// Adds `bias` to each row.
pub(crate) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    simd::run(AddBias { rows, bias });
}

/// Normalises each row to mean 0 and variance 1, then scales and shifts it.
pub(crate) fn normalise(rows: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    simd::run(Normalise { rows, add: None, scale, shift, epsilon });
}

/// Adds `bias` and the row of `more` with the same number to each row, then does the same as
/// [`normalise`].
pub(crate) fn normalise_sum(
    rows: &mut [f32],
    [more, bias]: [&[f32]; 2],
    [scale, shift]: [&[f32]; 2],
    epsilon: f32,
) {
    simd::run(Normalise { rows, add: Some([more, bias]), scale, shift, epsilon });
}

/// Replaces each row of `width` numbers by `e^(scale * row)`, divided by the sum of these powers.
/// `scale` must be positive.
pub(crate) fn softmax(rows: &mut [f32], width: usize, scale: f32) {
    simd::run(Softmax { rows, width, scale });
}

/// Replaces each row by `activation(row + bias)`.
pub(crate) fn activate(rows: &mut [f32], bias: &[f32], activation: Activation) {
    match activation {
        Activation::Gelu => simd::run(Activate { rows, bias, function: Gelu }),
        Activation::GeluApproximate => {
            simd::run(Activate { rows, bias, function: GeluApproximate });
        }
        Activation::Relu => simd::run(Activate { rows, bias, function: Relu }),
        Activation::Tanh => simd::run(Activate { rows, bias, function: Tanh }),
    }
}

/// Returns the mean of `rows`, each of `width` numbers.
pub(crate) fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        add_bias(&mut mean, row);
    }
    let share = count(width) / count(rows.len());
    for value in &mut mean {
        *value *= share;
    }
    mean
}

/// Returns the maximum of each column of `rows`, each of `width` numbers.
pub(crate) fn max(rows: &[f32], width: usize) -> Vec<f32> {
    let mut max = vec![f32::NEG_INFINITY; width];
    for row in rows.chunks_exact(width) {
        for (most, &value) in iter::zip(&mut max, row) {
            *most = most.max(value);
        }
    }
    max
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "no row has 2^23 numbers")]
fn count(count: usize) -> f32 {
    count as f32
}

struct AddBias<'a> {
    rows: &'a mut [f32],
    bias: &'a [f32],
}

impl Kernel for AddBias<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let (bias, bias_rest) = split::<V>(self.bias);
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            let (vectors, rest) = split_mut::<V>(row);
            for (value, bias) in iter::zip(vectors, bias) {
                *value = simd.add_f32s(*value, *bias);
            }
            for (value, bias) in iter::zip(rest, bias_rest) {
                *value += bias;
            }
        }
    }
}

struct Normalise<'a> {
    rows: &'a mut [f32],
    /// A matrix of the same size that is added to `rows`, and a bias that is added to each row.
    add: Option<[&'a [f32]; 2]>,
    scale: &'a [f32],
    shift: &'a [f32],
    epsilon: f32,
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { rows, add, scale, shift, epsilon } = self;
        let width = scale.len();
        let share = 1.0 / count(width);
        let (scale, scale_rest) = split::<V>(scale);
        let (shift, shift_rest) = split::<V>(shift);
        for (number, row) in rows.chunks_exact_mut(width).enumerate() {
            if let Some([more, bias]) = add {
                add_sum(simd, row, &more[number * width..][..width], bias);
            }
            let mean = sum(simd, row) * share;
            let variance = sum_of_squares(simd, row, mean) * share;
            let factor = 1.0 / (variance + epsilon).sqrt();
            let (vectors, rest) = split_mut::<V>(row);
            let means = simd.splat_f32s(mean);
            let factors = simd.splat_f32s(factor);
            for (value, (scale, shift)) in iter::zip(vectors, iter::zip(scale, shift)) {
                let normal = simd.mul_f32s(simd.sub_f32s(*value, means), factors);
                *value = simd.multiply_add(normal, *scale, *shift);
            }
            for (value, (scale, shift)) in iter::zip(rest, iter::zip(scale_rest, shift_rest)) {
                *value = (*value - mean) * factor * scale + shift;
            }
        }
    }
}

/// Adds `more + bias` to `row`.
#[inline(always)]
fn add_sum<V: Vectors>(simd: V, row: &mut [f32], more: &[f32], bias: &[f32]) {
    let (vectors, rest) = split_mut::<V>(row);
    let (more, more_rest) = split::<V>(more);
    let (bias, bias_rest) = split::<V>(bias);
    for (value, (more, bias)) in iter::zip(vectors, iter::zip(more, bias)) {
        *value = simd.add_f32s(*value, simd.add_f32s(*more, *bias));
    }
    for (value, (more, bias)) in iter::zip(rest, iter::zip(more_rest, bias_rest)) {
        *value += more + bias;
    }
}

#[inline(always)]
fn sum<V: Vectors>(simd: V, row: &[f32]) -> f32 {
    let (vectors, rest) = split::<V>(row);
    let mut sum = load_rest(simd, rest, 0.0);
    for value in vectors {
        sum = simd.add_f32s(sum, *value);
    }
    simd.reduce_sum_f32s(sum)
}

/// Returns the sum of `(row - mean)²`.
#[inline(always)]
fn sum_of_squares<V: Vectors>(simd: V, row: &[f32], mean: f32) -> f32 {
    let (vectors, rest) = split::<V>(row);
    let means = simd.splat_f32s(mean);
    let off = simd.sub_f32s(load_rest(simd, rest, mean), means);
    let mut sum = simd.mul_f32s(off, off);
    for value in vectors {
        let off = simd.sub_f32s(*value, means);
        sum = simd.multiply_add(off, off, sum);
    }
    simd.reduce_sum_f32s(sum)
}

struct Softmax<'a> {
    rows: &'a mut [f32],
    width: usize,
    scale: f32,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let scales = simd.splat_f32s(self.scale);
        for row in self.rows.chunks_exact_mut(self.width) {
            let (vectors, rest) = split_mut::<V>(row);
            let last = load_rest(simd, rest, f32::NEG_INFINITY);
            let mut most = last;
            for value in &*vectors {
                most = simd.max_f32s(most, *value);
            }
            let most = simd.splat_f32s(simd.reduce_max_f32s(most));
            // In the lanes beyond the row's end, `exp` returns its smallest result, about 1e-38.
            // This does not change the sum, which is at least 1.
            let last = exp(simd, simd.mul_f32s(simd.sub_f32s(last, most), scales));
            let mut sum = last;
            for value in &mut *vectors {
                *value = exp(simd, simd.mul_f32s(simd.sub_f32s(*value, most), scales));
                sum = simd.add_f32s(sum, *value);
            }
            let factor = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            for value in vectors {
                *value = simd.mul_f32s(*value, factor);
            }
            simd.partial_store_f32s(rest, simd.mul_f32s(last, factor));
        }
    }
}

/// A function of one number, for vectors of any width.
trait Function: Copy {
    /// Applies the function to each number of a vector. Must be `#[inline(always)]`.
    fn apply<V: Vectors>(self, simd: V, x: V::f32s) -> V::f32s;
}

struct Activate<'a, F> {
    rows: &'a mut [f32],
    bias: &'a [f32],
    function: F,
}

impl<F: Function> Kernel for Activate<'_, F> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let (bias, bias_rest) = split::<V>(self.bias);
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            let (vectors, rest) = split_mut::<V>(row);
            for (value, bias) in iter::zip(vectors, bias) {
                *value = self.function.apply(simd, simd.add_f32s(*value, *bias));
            }
            if !rest.is_empty() {
                let bias = load_rest(simd, bias_rest, 0.0);
                let value = simd.add_f32s(load_rest(simd, rest, 0.0), bias);
                simd.partial_store_f32s(rest, self.function.apply(simd, value));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn apply<V: Vectors>(self, simd: V, x: V::f32s) -> V::f32s {
        let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
        let scaled = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
        simd.multiply_add(half, erf(simd, scaled), half)
    }
}

#[derive(Clone, Copy)]
struct GeluApproximate;

impl Function for GeluApproximate {
    #[inline(always)]
    fn apply<V: Vectors>(self, simd: V, x: V::f32s) -> V::f32s {
        // The square root of 2/π.
        const FACTOR: f32 = 0.797_884_6;
        let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
        let square = simd.mul_f32s(x, x);
        let cubic = simd.multiply_add(
            simd.mul_f32s(square, x),
            simd.splat_f32s(0.044_715 * FACTOR),
            simd.mul_f32s(x, simd.splat_f32s(FACTOR)),
        );
        simd.multiply_add(half, tanh(simd, cubic), half)
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn apply<V: Vectors>(self, simd: V, x: V::f32s) -> V::f32s {
        simd.max_f32s(x, simd.splat_f32s(0.0))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn apply<V: Vectors>(self, simd: V, x: V::f32s) -> V::f32s {
        tanh(simd, x)
    }
}

/// Computes `e^x` with an error of at most 2 units in the last place. The result is never 0 and
/// never infinite.
///
/// `x` is split into a multiple of ln 2 and a rest. The multiple becomes the exponent of the
/// result. `e` to the power of the rest is approximated by a polynomial (Cephes, `expf.c`).
#[inline(always)]
fn exp<V: Vectors>(simd: V, x: V::f32s) -> V::f32s {
    // Adding this number to another one rounds it to an integer, which is then in the lowest bits
    // of the sum.
    const WHOLE: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let x = simd.max_f32s(simd.splat_f32s(-87.0), simd.min_f32s(simd.splat_f32s(88.0), x));
    let log_2_e = simd.splat_f32s(std::f32::consts::LOG2_E);
    let shifted = simd.multiply_add(x, log_2_e, simd.splat_f32s(WHOLE));
    let whole = simd.sub_f32s(shifted, simd.splat_f32s(WHOLE));
    let rest = simd.multiply_add(whole, simd.splat_f32s(-LN_2_HIGH), x);
    let rest = simd.multiply_add(whole, simd.splat_f32s(-LN_2_LOW), rest);
    let power = polynomial(simd, rest, COEFFICIENTS);
    let power = simd.multiply_add(
        simd.mul_f32s(power, rest),
        rest,
        simd.add_f32s(rest, simd.splat_f32s(1.0)),
    );
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent))
}

/// Computes the error function with an error of at most 3e-7, as the ratio of two polynomials
/// (taken from the library Eigen).
#[inline(always)]
fn erf<V: Vectors>(simd: V, x: V::f32s) -> V::f32s {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2];
    let x = simd.max_f32s(simd.splat_f32s(-4.0), simd.min_f32s(simd.splat_f32s(4.0), x));
    let square = simd.mul_f32s(x, x);
    let above = polynomial(simd, square, ABOVE);
    let below = polynomial(simd, square, BELOW);
    simd.div_f32s(simd.mul_f32s(x, above), below)
}

#[inline(always)]
fn tanh<V: Vectors>(simd: V, x: V::f32s) -> V::f32s {
    let one = simd.splat_f32s(1.0);
    let power = exp(simd, simd.add_f32s(x, x));
    simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(one, power)))
}

/// Evaluates a polynomial by Horner's scheme. The first coefficient is that of the highest power.
#[inline(always)]
fn polynomial<V: Vectors, const N: usize>(simd: V, x: V::f32s, coefficients: [f32; N]) -> V::f32s {
    let mut value = simd.splat_f32s(0.0);
    for coefficient in coefficients {
        value = simd.multiply_add(value, x, simd.splat_f32s(coefficient));
    }
    value
}

#[cfg(test)]
mod tests;

use proptest::prelude::*;

use super::{
    Activate, AddBias, Function, Gelu, GeluApproximate, Normalise, Relu, Softmax, Tanh, exp,
};
use crate::simd::{Kernel, Level, Vectors, split_mut};

/// Returns rows of all lengths up to 69, so that both whole vectors and the numbers after the last
/// whole vector are tested.
fn row() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-20.0_f32..20.0, 1..70)
}

fn assert_near(found: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    for (&found, expected) in found.iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{found} {expected}");
    }
}

/// Runs `run` on two copies of `row` with each generation of vector instructions. Returns the
/// result of each generation, after checking that both copies give the same.
fn twice<'a>(row: &[f32], run: impl Fn(Level, &mut [f32]) + 'a) -> Vec<Vec<f32>> {
    let compute = |level| {
        let mut rows = [row, row].concat();
        run(level, &mut rows);
        let (first, second) = rows.split_at(row.len());
        assert_eq!(first, second, "equal rows have equal results");
        first.to_vec()
    };
    Level::available().into_iter().map(compute).collect()
}

fn activated<F: Function>(row: &[f32], function: F) -> Vec<Vec<f32>> {
    let bias = vec![0.5; row.len()];
    twice(row, |level, rows| level.run(Activate { rows, bias: &bias, function }))
}

/// Computes the error function by its series, which converges fast enough for numbers up to 5.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn gelu_approximate(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

proptest! {
    #[test]
    fn activations_are_right_with_every_generation_of_vectors(row in row()) {
        let check = |found: Vec<Vec<f32>>, function: fn(f64) -> f64| {
            for found in found {
                assert_near(&found, row.iter().map(|&x| function(f64::from(x) + 0.5)), 4e-6);
            }
        };
        check(activated(&row, Gelu), gelu);
        check(activated(&row, GeluApproximate), gelu_approximate);
        check(activated(&row, Relu), |x| x.max(0.0));
        check(activated(&row, Tanh), f64::tanh);
    }

    #[test]
    fn softmax_is_right_with_every_generation_of_vectors(row in row()) {
        let powers: Vec<_> = row.iter().map(|&value| (0.5 * f64::from(value)).exp()).collect();
        let whole: f64 = powers.iter().sum();
        let width = row.len();
        for found in twice(&row, |level, rows| level.run(Softmax { rows, width, scale: 0.5 })) {
            assert_near(&found, powers.iter().map(|power| power / whole), 1e-6);
        }
    }

    #[test]
    fn a_bias_is_added_to_each_row(row in row()) {
        let bias: Vec<_> = row.iter().rev().copied().collect();
        for found in twice(&row, |level, rows| level.run(AddBias { rows, bias: &bias })) {
            let sums = row.iter().zip(&bias).map(|(value, bias)| f64::from(value + bias));
            assert_near(&found, sums, 0.0);
        }
    }

    #[test]
    fn a_normalised_row_has_mean_0_and_variance_1(
        row in row(), epsilon in 1e-12_f32..1e-3, more in prop::option::of(-3.0_f32..3.0),
    ) {
        let width = row.len();
        let scale = vec![2.0; width];
        let shift = vec![0.25; width];
        // Adding the same number to each component does not change the normalised row.
        let added = vec![more.unwrap_or(0.0); 2 * width];
        let bias = vec![1.0; width];
        let add = more.map(|_| [added.as_slice(), bias.as_slice()]);
        let run = |level: Level, rows: &mut [f32]| {
            level.run(Normalise { rows, add, scale: &scale, shift: &shift, epsilon });
        };
        let found = twice(&row, run);
        let row: Vec<_> = row.into_iter().map(f64::from).collect();
        #[expect(clippy::cast_precision_loss, reason = "rows are short")]
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let factor = 2.0 / (variance + f64::from(epsilon)).sqrt();
        // The rounding error of subtracting the mean is scaled by the same factor.
        let tolerance = 1e-5 * factor.max(1.0) + 1e-5;
        for found in found {
            assert_near(&found, row.iter().map(|value| (value - mean) * factor + 0.25), tolerance);
        }
    }

    #[test]
    fn exp_has_a_relative_error_below_3e_7(x in -87.0_f32..88.0) {
        for found in powers(x) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "{} {}", found, expected);
        }
    }
}

struct Exp<'a>(&'a mut [f32; 16]);

impl Kernel for Exp<'_> {
    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        for value in split_mut::<V>(self.0).0 {
            *value = exp(simd, *value);
        }
    }
}

fn powers(x: f32) -> impl Iterator<Item = f32> {
    Level::available().into_iter().map(move |level| {
        let mut values = [x; 16];
        level.run(Exp(&mut values));
        values[0]
    })
}

#[test]
fn exp_and_softmax_stay_finite_for_extreme_numbers() {
    assert!(powers(-1e9).all(|power| power < 1e-37));
    assert!(powers(1e9).all(f32::is_finite));
    let shares = twice(&[1e9, 0.0, -1e9], |level, rows| {
        level.run(Softmax { rows, width: 3, scale: 1.0 });
    });
    for row in shares {
        assert!((row[0] - 1.0).abs() < 1e-6 && row[1] < 1e-30 && row[2] < 1e-30, "{row:?}");
    }
}

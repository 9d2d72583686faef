//! Whether a device computes what the CPU computes.
//!
//! Drivers have been seen that run every kernel and give wrong numbers for some, depending on which kernel autotuning
//! picked. An answer that is wrong without anybody noticing is worse than none, so each shape is checked once.

use forebay_stream::Failure;

use super::{Precision, TextModel};
use crate::Error;

/// Largest difference of one number, a logit or a component of a vector, that rounding may explain.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::F16 | Precision::Bf16 => 5e-2,
    }
}

/// Runs one text in a batch of `shape`, `[rows, tokens]`, on `model`'s device, and alone on the CPU.
pub(super) fn check(
    model: &TextModel,
    cpu: &TextModel,
    [rows, length]: [usize; 2],
    shape: &str,
) -> Result<(), Error> {
    let text = some_text(length, model.vocabulary);
    let (found, width) = model.compute(&[&text], [rows, length]).map_err(failed)?;
    let (expected, _) = cpu.compute(&[&text], [1, length]).map_err(failed)?;
    let difference = difference(&found[..width], &expected);
    // A difference that is not a number is none that rounding explains.
    if difference <= tolerance(model.options.precision) {
        return Ok(());
    }
    let device = model.device.reason().to_owned();
    Err(Error::WrongResults { device, shape: shape.to_owned(), difference })
}

/// A run of the warm-up that failed.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn failed(failure: Failure) -> Error {
    Error::WarmUp { message: failure.message().to_owned() }
}

/// Tokens all over the vocabulary, the same ones every time.
pub(super) fn some_text(length: usize, vocabulary: usize) -> Vec<u32> {
    (0..length).map(|index| u32::try_from(index * 7919 % vocabulary).unwrap_or_default()).collect()
}

/// The largest difference between two numbers at the same place; not a number if any is not.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(0.0, |most, next| if next.is_nan() || next > most { next } else { most })
}

#[cfg(test)]
mod tests {
    use super::{Precision, difference, tolerance};

    #[test]
    fn rounding_passes_and_anything_else_does_not() {
        let most = tolerance(Precision::F32);
        assert!(difference(&[0.25, 0.75], &[0.250_001, 0.749_999]) <= most);
        assert!(difference(&[0.26, 0.74], &[0.25, 0.75]) > most);
        assert!(difference(&[f32::NAN, 0.75], &[0.25, 0.75]).is_nan());
        assert!(difference(&[f32::INFINITY, 0.75], &[0.25, 0.75]) > most);
    }
}

//! Whether a device computes what the CPU computes, and what is done where it does not.
//!
//! Drivers have been seen that run every kernel and give wrong numbers for some, depending on which kernel autotuning
//! picked. An answer that is wrong without anybody noticing is worse than none, so each rectangle is compared once. Where
//! one differs, the device is given simpler kernels, and only when none are right the model does not start.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use forebay_stream::Failure;
use tracing::warn;

use super::{Precision, TextModel};
use crate::encoder::Masking;
use crate::{Error, WarmUp};

/// In which numbers, and with which attention, a GPU computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    pub(super) precision: Precision,
    pub(super) masking: Masking,
}

impl Kernels {
    /// The fastest with such options.
    pub(super) fn fastest(precision: Precision, flash_attention: bool) -> Self {
        Self { precision, masking: Masking::fastest(precision, flash_attention) }
    }

    /// Slower ones that less can be wrong with.
    fn simpler(self) -> Option<Self> {
        match (self.masking, self.precision) {
            (Masking::Boolean, _) => Some(Self { masking: Masking::Bias, ..self }),
            (Masking::Bias, Precision::F32) => None,
            (Masking::Bias, _) => Some(Self { precision: Precision::F32, ..self }),
        }
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { precision, masking } = self;
        match (precision, masking) {
            (Precision::F32, _) => write!(f, "{precision}"),
            (_, Masking::Boolean) => write!(f, "{precision} with flash attention"),
            (_, Masking::Bias) => write!(f, "{precision} without flash attention"),
        }
    }
}

/// A device with a model on it.
pub(super) trait Computes {
    /// Token ids are below this.
    fn vocabulary(&self) -> usize;

    /// Runs texts, each in a row of `rectangle`, `[rows, tokens]`: the numbers of all rows, and how many a row has.
    fn compute(
        &self,
        texts: &[&[u32]],
        rectangle: [usize; 2],
    ) -> Result<(Vec<f32>, usize), Failure>;

    /// What it computes with.
    fn kernels(&self) -> Kernels;

    /// Has it compute with others.
    fn switch_to(&mut self, kernels: Kernels) -> Result<(), Error>;

    /// The device in words.
    fn device(&self) -> String;
}

/// Runs every rectangle, which compiles and tunes its kernels, and compares it with the CPU.
///
/// # Errors
///
/// [`Error::WrongResults`] or [`Error::WarmUp`] if the device fails with the simplest kernels too.
pub(super) fn verify(
    device: &mut impl Computes,
    reference: &mut CpuReference,
    rectangles: &[[usize; 2]],
    progress: &mut dyn FnMut(WarmUp),
) -> Result<(), Error> {
    loop {
        let kernels = device.kernels();
        let error = match compare(device, reference, rectangles, progress) {
            Err(error @ (Error::WrongResults { .. } | Error::WarmUp { .. })) => error,
            other => return other,
        };
        let Some(simpler) = kernels.simpler() else { return Err(error) };
        warn!("{error}; trying {simpler} instead");
        device.switch_to(simpler)?;
    }
}

fn compare(
    device: &impl Computes,
    reference: &mut CpuReference,
    rectangles: &[[usize; 2]],
    progress: &mut dyn FnMut(WarmUp),
) -> Result<(), Error> {
    let kernels = device.kernels();
    for (index, &[rows, length]) in rectangles.iter().enumerate() {
        let shape = format!("{rows} texts of {length} tokens");
        let difference = reference.of_device(device, [rows, length])?;
        // A difference that is not a number is none that rounding explains.
        if difference.is_nan() || difference > tolerance(kernels.precision) {
            let (device, kernels) = (device.device(), kernels.to_string());
            return Err(Error::WrongResults { device, kernels, shape, difference });
        }
        progress(WarmUp { done: index + 1, total: rectangles.len(), shape });
    }
    Ok(())
}

/// The same model on the CPU, and what it has answered so far.
pub struct CpuReference {
    model: TextModel,
    /// By the length of the rectangle, the rows of [`texts`].
    rows: HashMap<usize, Vec<Vec<f32>>>,
}

impl CpuReference {
    pub(super) fn new(model: TextModel) -> Self {
        Self { model, rows: HashMap::new() }
    }

    /// The largest difference of one number, a logit or a component of a vector, between what `model`'s device and the
    /// CPU give in `rectangle`, `[rows, tokens]`; not a number if the device gave any that is none.
    ///
    /// Texts of unlike lengths fill most of the rows, so that a mask that is ignored is noticed, and padding the rest.
    ///
    /// # Errors
    ///
    /// [`Error::WarmUp`] if either cannot compute.
    pub fn difference(&mut self, model: &TextModel, rectangle: [usize; 2]) -> Result<f32, Error> {
        self.of_device(model, rectangle)
    }

    fn of_device(
        &mut self,
        device: &impl Computes,
        [rows, length]: [usize; 2],
    ) -> Result<f32, Error> {
        let texts = texts(length, device.vocabulary());
        let expected = match self.rows.entry(length) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let row = |text: &Vec<u32>| {
                    let row = self.model.compute(&[text], [1, text.len()]).map_err(failed)?;
                    Ok(row.0)
                };
                unknown.insert(texts.iter().map(row).collect::<Result<Vec<_>, Error>>()?)
            }
        };
        let mut most = 0.0;
        for run in runs(texts.len(), rows) {
            let batch: Vec<_> = run.iter().map(|&text| texts[text].as_slice()).collect();
            let (found, width) = device.compute(&batch, [rows, length]).map_err(failed)?;
            // Nobody reads the rows of padding, but they are to be numbers.
            let finite = found.iter().all(|value| value.is_finite());
            most = larger(most, if finite { 0.0 } else { f32::NAN });
            for (row, text) in found.chunks(width).zip(run) {
                most = larger(most, difference(row, &expected[text]));
            }
        }
        Ok(most)
    }
}

/// Largest difference of one number that rounding may explain.
pub(super) fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::F16 | Precision::Bf16 => 5e-2,
    }
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

/// Texts that fill a row of `length` tokens to unlike degrees, the longest first.
fn texts(length: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut lengths = vec![length, length / 2 + 1, length / 4 + 1, 1];
    lengths.dedup();
    lengths.into_iter().map(|length| some_text(length, vocabulary)).collect()
}

/// The texts, by their numbers, in each row of each run in which `rows` rows have room for all of them. Rows are filled
/// by repeating the texts, and in large rectangles the last quarter is left to padding.
fn runs(texts: usize, rows: usize) -> Vec<Vec<usize>> {
    if rows <= texts {
        return (0..texts).collect::<Vec<_>>().chunks(rows).map(<[_]>::to_vec).collect();
    }
    vec![(0..rows - rows / 4).map(|row| row % texts).collect()]
}

/// The largest difference between two numbers at the same place; not a number if any is not.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(0.0, larger)
}

/// The larger of two; not a number if either is not.
fn larger(most: f32, next: f32) -> f32 {
    if most.is_nan() || next <= most { most } else { next }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use forebay_stream::Failure;

    use super::{Computes, Kernels, difference, larger, runs, texts, tolerance, verify};
    use crate::{DeviceChoice, Error, Precision, TextModel, TextModelOptions};

    #[test]
    fn rounding_passes_and_anything_else_does_not() {
        let most = tolerance(Precision::F32);
        assert!(difference(&[0.25, 0.75], &[0.250_001, 0.749_999]) <= most);
        assert!(difference(&[0.26, 0.74], &[0.25, 0.75]) > most);
        assert!(difference(&[f32::NAN, 0.75], &[0.25, 0.75]).is_nan());
        assert!(difference(&[f32::INFINITY, 0.75], &[0.25, 0.75]) > most);
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
    }

    #[test]
    fn every_text_has_a_row_and_full_rows_and_short_ones_are_among_them() {
        for rows in [1, 2, 3, 4, 5, 8, 64] {
            let texts = texts(32, 100);
            let lengths: Vec<_> = texts.iter().map(Vec::len).collect();
            assert_eq!(lengths, [32, 17, 9, 1]);
            let runs = runs(texts.len(), rows);
            let fit = runs.iter().all(|run| !run.is_empty() && run.len() <= rows);
            assert!(fit, "{rows}: {runs:?}");
            let used: BTreeSet<_> = runs.iter().flatten().collect();
            assert_eq!(used.len(), texts.len(), "{rows}: {runs:?}");
        }
        assert_eq!(texts(1, 100).len(), 1);
    }

    /// How a device is wrong.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        /// Padding is part of each text.
        IgnoresMask,
        /// Rows of padding are not numbers.
        Padding,
        /// One number of the last row is a little off.
        LastRow,
        Fails,
    }

    /// A device that is wrong on purpose, with kernels of some kinds.
    struct Faulty {
        model: TextModel,
        kernels: Kernels,
        /// With flash attention, in f16 without it, in f32.
        faults: [Fault; 3],
    }

    impl Computes for Faulty {
        fn vocabulary(&self) -> usize {
            self.model.vocabulary
        }

        fn compute(
            &self,
            given: &[&[u32]],
            [rows, length]: [usize; 2],
        ) -> Result<(Vec<f32>, usize), Failure> {
            let kinds = [Precision::F16, Precision::F16, Precision::F32];
            let kind =
                (0..3).find(|&kind| self.kernels == Kernels::fastest(kinds[kind], kind == 0));
            let fault = self.faults[kind.unwrap()];
            if fault == Fault::Fails {
                return Err(Failure::new("device_failed", "there is no such kernel"));
            }
            let mut texts: Vec<_> = given.iter().map(|text| text.to_vec()).collect();
            texts.resize(rows, vec![0]);
            if fault == Fault::IgnoresMask {
                for text in &mut texts {
                    text.resize(length, 0);
                }
            }
            let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
            let (mut found, width) = self.model.compute(&texts, [rows, length])?;
            match fault {
                Fault::Padding => found[given.len() * width..].fill(f32::NAN),
                Fault::LastRow => found[given.len() * width - 1] += 0.1,
                _ => {}
            }
            Ok((found, width))
        }

        fn kernels(&self) -> Kernels {
            self.kernels
        }

        fn switch_to(&mut self, kernels: Kernels) -> Result<(), Error> {
            self.kernels = kernels;
            Ok(())
        }

        fn device(&self) -> String {
            "a device that is wrong on purpose".to_owned()
        }
    }

    /// What such a device ends up with.
    fn settles_on(precision: Precision, faults: [Fault; 3]) -> Result<String, Error> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let options = TextModelOptions {
            device: DeviceChoice::Cpu,
            ..TextModelOptions::new(path.join("tests/reference/tiny-bert-classifier"))
        };
        let model = TextModel::load(&options)?;
        let mut reference = model.cpu_reference()?;
        let mut device = Faulty { model, kernels: Kernels::fastest(precision, true), faults };
        let rectangles = [[1, 8], [4, 8], [8, 16]];
        let mut last = 0;
        verify(&mut device, &mut reference, &rectangles, &mut |step| last = step.done)?;
        assert_eq!(last, rectangles.len());
        Ok(device.kernels.to_string())
    }

    #[test]
    fn a_device_that_is_right_keeps_the_fastest_kernels() {
        let right = [Fault::None; 3];
        assert_eq!(settles_on(Precision::F16, right).unwrap(), "f16 with flash attention");
        assert_eq!(settles_on(Precision::F32, right).unwrap(), "f32");
    }

    #[test]
    fn a_device_that_is_wrong_is_given_simpler_kernels_until_it_is_right() {
        for fault in [Fault::IgnoresMask, Fault::Padding, Fault::LastRow, Fault::Fails] {
            let found = settles_on(Precision::F16, [fault, Fault::None, Fault::None]).unwrap();
            assert_eq!(found, "f16 without flash attention", "{fault:?}");
            let found = settles_on(Precision::F16, [fault, fault, Fault::None]).unwrap();
            assert_eq!(found, "f32", "{fault:?}");
        }
    }

    #[test]
    fn a_device_that_is_always_wrong_does_not_start() {
        for fault in [Fault::IgnoresMask, Fault::Padding, Fault::LastRow, Fault::Fails] {
            for precision in [Precision::F16, Precision::F32] {
                let error = settles_on(precision, [fault; 3]).unwrap_err();
                match error {
                    Error::WrongResults { kernels, .. } => assert_eq!(kernels, "f32", "{fault:?}"),
                    Error::WarmUp { .. } => assert_eq!(fault, Fault::Fails),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

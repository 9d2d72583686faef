//! Checking that a device computes the same results as the CPU.
//!
//! Some graphics drivers run a kernel without an error although its results are wrong. Which
//! kernels run depends on the rectangle (the number of texts in a batch and their length in
//! tokens), because Burn tunes its kernels for each one. A wrong result that nobody notices is
//! worse than none, so the warm-up computes every rectangle once and compares the results with the
//! CPU's. If they differ, the model is loaded again with simpler kernels. If the simplest kernels
//! give wrong results too, the model does not start.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use forebay_stream::Failure;
use tracing::warn;

use super::{Precision, TextModel};
use crate::encoder::Masking;
use crate::{Error, WarmUp};

/// The choice of a GPU's kernels: the precision, and the masking, which decides about flash
/// attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    pub(super) precision: Precision,
    pub(super) masking: Masking,
}

impl Kernels {
    /// Returns the fastest kernels that these options allow.
    pub(super) fn fastest(precision: Precision, flash_attention: bool) -> Self {
        Self { precision, masking: Masking::fastest(precision, flash_attention) }
    }

    /// Returns slower kernels that rely on fewer features of the driver, if there are any.
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
pub(super) trait ComputeDevice {
    /// Returns the number of tokens in the model's vocabulary. All token ids are below it.
    fn vocabulary(&self) -> usize;

    /// Computes texts, each in one row of `rectangle`, `[rows, tokens]`. Returns the resulting
    /// numbers of all rows, and the width of a resulting row.
    fn compute(
        &self,
        texts: &[&[u32]],
        rectangle: [usize; 2],
    ) -> Result<(Vec<f32>, usize), Failure>;

    /// Returns the kernels that the device computes with.
    fn kernels(&self) -> Kernels;

    /// Loads the model again with other kernels.
    fn switch_to(&mut self, kernels: Kernels) -> Result<(), Error>;

    /// Returns the device's name, for messages.
    fn device(&self) -> String;
}

/// Computes every rectangle, which compiles and tunes its kernels, and compares the results with
/// the CPU's. If the device fails or gives wrong results, tries again with simpler kernels.
///
/// # Errors
///
/// [`Error::WrongResults`] or [`Error::WarmUp`] if the device fails with the simplest kernels too.
pub(super) fn verify(
    device: &mut impl ComputeDevice,
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

/// Computes every rectangle with the device's current kernels and compares the results.
fn compare(
    device: &impl ComputeDevice,
    reference: &mut CpuReference,
    rectangles: &[[usize; 2]],
    progress: &mut dyn FnMut(WarmUp),
) -> Result<(), Error> {
    let kernels = device.kernels();
    for (index, &[rows, length]) in rectangles.iter().enumerate() {
        let shape = format!("{rows} texts of {length} tokens");
        let difference = reference.largest_difference(device, [rows, length])?;
        // NaN is not greater than the tolerance, so it needs its own check.
        if difference.is_nan() || difference > tolerance(kernels.precision) {
            return Err(Error::WrongResults {
                device: device.device(),
                kernels: kernels.to_string(),
                shape,
                difference,
            });
        }
        progress(WarmUp { done: index + 1, total: rectangles.len(), shape });
    }
    Ok(())
}

/// A model on the CPU. The results of another device are compared with its results.
pub struct CpuReference {
    model: TextModel,
    /// The results that were computed so far, for the texts of [`sample_texts`], by the length of
    /// the rectangle.
    rows: HashMap<usize, Vec<Vec<f32>>>,
}

impl fmt::Debug for CpuReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuReference").field("model", &self.model).finish_non_exhaustive()
    }
}

impl CpuReference {
    pub(super) fn new(model: TextModel) -> Self {
        Self { model, rows: HashMap::new() }
    }

    /// Computes a `rectangle`, `[rows, tokens]`, with `model`, and returns the largest difference
    /// of one number (a logit or a vector's component) from the CPU's result. The difference is NaN
    /// if the model's device gave a number that is not finite.
    ///
    /// The rows hold texts of different lengths, and some hold only padding. So the results differ
    /// if the device does not mask padding.
    ///
    /// # Errors
    ///
    /// [`Error::WarmUp`] if either device cannot compute.
    pub fn difference(&mut self, model: &TextModel, rectangle: [usize; 2]) -> Result<f32, Error> {
        self.largest_difference(model, rectangle)
    }

    fn largest_difference(
        &mut self,
        device: &impl ComputeDevice,
        [rows, length]: [usize; 2],
    ) -> Result<f32, Error> {
        let texts = sample_texts(length, device.vocabulary());
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
        // Weights with an infinity or NaN give such numbers on every device. A warning has named them
        // when the model was loaded, and each answer with such a number fails.
        let is_comparable = expected.iter().flatten().all(|value| value.is_finite());
        let mut most = 0.0;
        for run in runs(texts.len(), rows) {
            let batch: Vec<_> = run.iter().map(|&text| texts[text].as_slice()).collect();
            let (found, width) = device.compute(&batch, [rows, length]).map_err(failed)?;
            if !is_comparable {
                continue;
            }
            // A number that is not finite is an error of the device even in a row of padding, whose
            // numbers are not used.
            let finite = found.iter().all(|value| value.is_finite());
            most = larger(most, if finite { 0.0 } else { f32::NAN });
            for (row, text) in found.chunks(width).zip(run) {
                most = larger(most, difference(row, &expected[text]));
            }
        }
        Ok(most)
    }
}

/// Returns the largest difference of one number that can result from rounding.
pub(super) fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::F16 | Precision::Bf16 => 5e-2,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn failed(failure: Failure) -> Error {
    Error::WarmUp { message: failure.message().to_owned() }
}

/// Returns a text of `length` token ids, spread over the whole vocabulary. The same `length` always
/// gives the same text.
pub(super) fn sample_text(length: usize, vocabulary: usize) -> Vec<u32> {
    (0..length).map(|index| u32::try_from(index * 7919 % vocabulary).unwrap_or_default()).collect()
}

/// Returns up to four texts of different lengths: `length` tokens, about half and about a quarter
/// of it, and 1.
fn sample_texts(length: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut lengths = vec![length, length / 2 + 1, length / 4 + 1, 1];
    lengths.dedup();
    lengths.into_iter().map(|length| sample_text(length, vocabulary)).collect()
}

/// Assigns sample texts to the rows of runs, so that every text is computed. Returns a list for
/// each run, with the index of the text in each row.
///
/// If the texts do not all fit into `rows` rows, there are several runs. If there are more rows
/// than texts, there is one run in which texts are repeated, and the last quarter of its rows is
/// left to padding.
fn runs(texts: usize, rows: usize) -> Vec<Vec<usize>> {
    if rows <= texts {
        return (0..texts).collect::<Vec<_>>().chunks(rows).map(<[_]>::to_vec).collect();
    }
    vec![(0..rows - rows / 4).map(|row| row % texts).collect()]
}

/// Returns the largest difference between two numbers at the same index, NaN if any is NaN.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(0.0, larger)
}

/// Returns the larger of two numbers, NaN if either is NaN.
fn larger(most: f32, next: f32) -> f32 {
    if most.is_nan() || next <= most { most } else { next }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use forebay_stream::Failure;
    use safetensors::SafeTensors;

    use super::{
        ComputeDevice, Kernels, difference, larger, runs, sample_texts, tolerance, verify,
    };
    use crate::{DeviceChoice, Error, Precision, TextModel, TextModelOptions};

    #[test]
    fn only_rounding_errors_are_within_the_tolerance() {
        let most = tolerance(Precision::F32);
        assert!(difference(&[0.25, 0.75], &[0.250_001, 0.749_999]) <= most);
        assert!(difference(&[0.26, 0.74], &[0.25, 0.75]) > most);
        assert!(difference(&[f32::NAN, 0.75], &[0.25, 0.75]).is_nan());
        assert!(difference(&[f32::INFINITY, 0.75], &[0.25, 0.75]) > most);
        assert!(larger(f32::NAN, 1.0).is_nan() && larger(1.0, f32::NAN).is_nan());
    }

    #[test]
    fn every_sample_text_is_computed_whatever_the_number_of_rows() {
        for rows in [1, 2, 3, 4, 5, 8, 64] {
            let texts = sample_texts(32, 100);
            let lengths: Vec<_> = texts.iter().map(Vec::len).collect();
            assert_eq!(lengths, [32, 17, 9, 1]);
            let runs = runs(texts.len(), rows);
            let fit = runs.iter().all(|run| !run.is_empty() && run.len() <= rows);
            assert!(fit, "{rows}: {runs:?}");
            let used: BTreeSet<_> = runs.iter().flatten().collect();
            assert_eq!(used.len(), texts.len(), "{rows}: {runs:?}");
        }
        assert_eq!(sample_texts(1, 100).len(), 1);
    }

    /// An error that a device makes.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        /// The device computes padding as if it were part of the text.
        IgnoresMask,
        /// Rows of padding become NaN.
        Padding,
        /// One number of the last text's row is off by 0.1.
        LastRow,
        Fails,
    }

    /// A device that makes errors on purpose, depending on the kernels.
    struct Faulty {
        model: TextModel,
        kernels: Kernels,
        /// Faults of f16 with flash attention, of f16 without it, and of f32.
        faults: [Fault; 3],
    }

    impl ComputeDevice for Faulty {
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

    /// Verifies a device with these faults and returns the kernels that it has afterwards.
    fn verified_kernels(precision: Precision, faults: [Fault; 3]) -> Result<String, Error> {
        verified_kernels_of(&tiny(), precision, faults)
    }

    fn tiny() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny-bert-classifier")
    }

    fn verified_kernels_of(
        path: &Path,
        precision: Precision,
        faults: [Fault; 3],
    ) -> Result<String, Error> {
        let options = TextModelOptions { device: DeviceChoice::Cpu, ..TextModelOptions::new(path) };
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
    fn a_correct_device_keeps_the_fastest_kernels() {
        let right = [Fault::None; 3];
        assert_eq!(verified_kernels(Precision::F16, right).unwrap(), "f16 with flash attention");
        assert_eq!(verified_kernels(Precision::F32, right).unwrap(), "f32");
    }

    #[test]
    fn a_device_is_not_blamed_for_weights_that_are_not_finite_a4() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::copy(tiny().join(file), directory.path().join(file)).unwrap();
        }
        let weights = directory.path().join("model.safetensors");
        let mut bytes = fs::read(&weights).unwrap();
        let header = SafeTensors::read_metadata(&bytes).unwrap();
        let (start, _) = header.1.info("classifier.bias").unwrap().data_offsets;
        bytes[8 + header.0 + start..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(weights, bytes).unwrap();
        let found = verified_kernels_of(directory.path(), Precision::F16, [Fault::None; 3]);
        assert_eq!(found.unwrap(), "f16 with flash attention");
    }

    #[test]
    fn a_wrong_device_falls_back_to_simpler_kernels() {
        for fault in [Fault::IgnoresMask, Fault::Padding, Fault::LastRow, Fault::Fails] {
            let found =
                verified_kernels(Precision::F16, [fault, Fault::None, Fault::None]).unwrap();
            assert_eq!(found, "f16 without flash attention", "{fault:?}");
            let found = verified_kernels(Precision::F16, [fault, fault, Fault::None]).unwrap();
            assert_eq!(found, "f32", "{fault:?}");
        }
    }

    #[test]
    fn a_device_that_is_wrong_with_every_kernel_does_not_start() {
        for fault in [Fault::IgnoresMask, Fault::Padding, Fault::LastRow, Fault::Fails] {
            for precision in [Precision::F16, Precision::F32] {
                let error = verified_kernels(precision, [fault; 3]).unwrap_err();
                match error {
                    Error::WrongResults { kernels, .. } => assert_eq!(kernels, "f32", "{fault:?}"),
                    Error::WarmUp { .. } => assert_eq!(fault, Fault::Fails),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

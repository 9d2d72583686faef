//! `Weights`: loads the tensors of safetensors files as Burn layers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use burn::module::Param;
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::WeightFiles;
use crate::{Error, FormatError, Precision, SelectedDevice};

/// The tensors of a model's weights. Its methods load them as Burn layers on one device.
///
/// The shape of every tensor is compared with the one that is asked for before memory for its
/// numbers is reserved, so a size in `config.json` may be any number.
pub struct Weights<'a> {
    files: &'a WeightFiles,
    /// Each tensor with the file that has it.
    tensors: BTreeMap<String, (&'a Path, TensorView<'a>)>,
    device: &'a Device,
    precision: Precision,
    limit: Option<Limit<'a>>,
    taken: RefCell<BTreeSet<String>>,
    not_finite: RefCell<Vec<String>>,
}

/// The largest tensor that a device takes.
#[derive(Clone, Copy)]
struct Limit<'a> {
    most: u64,
    device: &'a str,
}

impl fmt::Debug for Weights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("path", &self.path())
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

impl<'a> Weights<'a> {
    /// Parses the headers of the files.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if one of them is not a safetensors file.
    pub fn parse(files: &'a WeightFiles, device: &'a Device) -> Result<Self, Error> {
        let mut tensors = BTreeMap::new();
        for (path, bytes) in &files.files {
            let parsed = SafeTensors::deserialize(bytes)
                .map_err(|source| Error::Weights { path: path.clone(), source })?;
            let parsed = parsed.tensors().into_iter();
            tensors.extend(parsed.map(|(name, view)| (name, (path.as_path(), view))));
        }
        Ok(Self {
            files,
            tensors,
            device,
            precision: Precision::F32,
            limit: None,
            taken: RefCell::default(),
            not_finite: RefCell::default(),
        })
    }

    /// Returns the same weights for layers that compute in `precision` instead of f32.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Returns the same weights. A tensor that is larger than the buffers of `device` becomes an
    /// error instead of a failure of the driver.
    #[must_use]
    pub fn within(mut self, device: &'a SelectedDevice) -> Self {
        self.limit = Some(Limit { most: device.largest_buffer(), device: device.reason() });
        self
    }

    /// Returns the device of the layers.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Returns the path of the file that has the weights, or of the first one.
    #[must_use]
    pub fn path(&self) -> &'a Path {
        self.files.files.first().map_or(Path::new(super::WEIGHTS), |(path, _)| path)
    }

    /// Returns whether the files have a tensor called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the number of rows of the tensor `name`.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    pub fn rows(&self, name: &str) -> Result<usize, Error> {
        let (_, view) = self.find(name)?;
        Ok(view.shape().first().copied().unwrap_or_default())
    }

    /// Returns the names of the tensors that no method has taken.
    pub(super) fn left(&self) -> Vec<&str> {
        let taken = self.taken.borrow();
        self.tensors.keys().filter(|name| !taken.contains(*name)).map(String::as_str).collect()
    }

    /// Returns the names of the taken tensors with an infinity or NaN.
    pub(super) fn not_finite(&self) -> Vec<String> {
        self.not_finite.borrow().clone()
    }

    /// Returns the elements of the tensor `name` in row-major order. The tensor must have this
    /// shape.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`], [`Error::TensorShape`] or [`Error::TensorType`], naming file and
    /// tensor.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let (path, view) = self.checked(name, shape)?;
        let values = match view.dtype() {
            Dtype::F32 => convert(view.data(), f32::from_le_bytes),
            Dtype::F16 => convert(view.data(), |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => convert(view.data(), |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => {
                return Err(Error::TensorType {
                    path: path.into(),
                    name: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        if values.iter().any(|value| !value.is_finite()) {
            self.not_finite.borrow_mut().push(name.to_owned());
        }
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(values)
    }

    /// Loads `{name}.weight` `[rows, width]` as an embedding.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take), and [`FormatError::TooLarge`].
    pub fn embedding(&self, name: &str, [rows, width]: [usize; 2]) -> Result<Embedding, Error> {
        let name = format!("{name}.weight");
        let values = self.take(&name, &[rows, width])?;
        Ok(Embedding { weight: self.param(&name, values, [rows, width])? })
    }

    /// Loads `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]` as a linear layer.
    ///
    /// Several names become one wider layer, which has the outputs of the first name, then those of
    /// the second, and so on.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take), and [`FormatError::TooLarge`].
    pub fn linear(&self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear, Error> {
        self.join(names, [inputs, outputs], true)
    }

    /// Loads one linear layer, with or without a bias.
    pub(crate) fn linear_or_matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        has_bias: bool,
    ) -> Result<Linear, Error> {
        self.join(&[name], shape, has_bias)
    }

    fn join(
        &self,
        names: &[&str],
        [inputs, outputs]: [usize; 2],
        has_bias: bool,
    ) -> Result<Linear, Error> {
        for name in names {
            self.checked(&format!("{name}.weight"), &[outputs, inputs])?;
            if has_bias {
                self.checked(&format!("{name}.bias"), &[outputs])?;
            }
        }
        let width = names.len() * outputs;
        let mut weight = vec![0.0; inputs * width];
        let mut bias = Vec::with_capacity(width);
        for (part, name) in names.iter().enumerate() {
            // PyTorch stores one row per output, Burn one column.
            let rows = self.take(&format!("{name}.weight"), &[outputs, inputs])?;
            for (output, row) in rows.chunks_exact(inputs).enumerate() {
                let column = part * outputs + output;
                for (input, value) in row.iter().enumerate() {
                    weight[input * width + column] = *value;
                }
            }
            if has_bias {
                bias.extend(self.take(&format!("{name}.bias"), &[outputs])?);
            }
        }
        let name = names.join(" + ");
        let bias = has_bias.then(|| self.param(&name, bias, [width])).transpose()?;
        Ok(Linear { weight: self.param(&name, weight, [inputs, width])?, bias })
    }

    /// Loads `{name}.weight` and `{name}.bias` `[width]` as a layer normalisation; the older names
    /// `gamma` and `beta` work too.
    ///
    /// The layer is in f32 whatever the precision of the others is, because Burn normalises in f32.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn norm(&self, name: &str, width: usize, epsilon: f64) -> Result<LayerNorm, Error> {
        let old = self.contains(&format!("{name}.gamma"));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let param = |part: &str| {
            let values = TensorData::new(self.take(&format!("{name}.{part}"), &[width])?, [width]);
            Ok::<_, Error>(Param::from_tensor(Tensor::<1>::from_data(values, self.device)))
        };
        let gamma = param(weight)?;
        let beta = param(bias)?;
        let mut norm = LayerNormConfig::new(width).with_epsilon(epsilon).init(self.device);
        norm.gamma = gamma;
        norm.beta = Some(beta);
        Ok(norm)
    }

    fn find(&self, name: &str) -> Result<&(&'a Path, TensorView<'a>), Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { path: self.path().into(), name: name.to_owned() })
    }

    /// Returns the tensor `name` and its file, if the tensor has this shape.
    fn checked(&self, name: &str, shape: &[usize]) -> Result<&(&'a Path, TensorView<'a>), Error> {
        let found = self.find(name)?;
        let (path, view) = found;
        if view.shape() == shape {
            return Ok(found);
        }
        Err(Error::TensorShape {
            path: (*path).into(),
            name: name.to_owned(),
            expected: shape.to_vec(),
            found: view.shape().to_vec(),
        })
    }

    fn param<const D: usize>(
        &self,
        name: &str,
        values: Vec<f32>,
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, Error> {
        let dtype = self.precision.dtype();
        let size = if dtype == FloatDType::F32 { 4 } else { 2 };
        let bytes = values.len() as u64 * size;
        if let Some(Limit { most, device }) = self.limit.filter(|limit| bytes > limit.most) {
            let name = name.to_owned();
            return Err(FormatError::TooLarge { name, bytes, most, device: device.into() }.into());
        }
        let tensor: Tensor<D> = Tensor::from_data(TensorData::new(values, shape), self.device);
        Ok(Param::from_tensor(tensor.cast(dtype)))
    }
}

fn convert<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&chunk| element(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use burn::tensor::Device;
    use safetensors::tensor::{Dtype, TensorView};

    use super::{Limit, WeightFiles, Weights};
    use crate::Precision;

    fn files() -> WeightFiles {
        let numbers = [0; 4 * 12];
        let view = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &numbers).unwrap();
        let views = [("words.weight", view(&[6, 2])), ("a.weight", view(&[3, 4]))];
        let bias = TensorView::new(Dtype::F32, vec![3], &numbers[..12]).unwrap();
        let views = views.into_iter().chain([("a.bias", bias)]);
        let bytes = safetensors::serialize(views, None).unwrap();
        WeightFiles { files: vec![(PathBuf::from("model.safetensors"), bytes)] }
    }

    #[test]
    fn a_tensor_that_is_larger_than_the_devices_buffers_is_named_b8() {
        let files = files();
        let device = Device::flex();
        let load = |most, precision| {
            let mut weights = Weights::parse(&files, &device).unwrap().in_precision(precision);
            weights.limit = Some(Limit { most, device: "gpu: tiny" });
            let words = weights.embedding("words", [6, 2]).map(drop);
            [words, weights.linear(&["a"], 4, 3).map(drop)]
                .map(|loaded| loaded.map_err(|error| error.to_string()))
        };
        assert_eq!(load(48, Precision::F32), [Ok(()), Ok(())]);
        let [words, linear] = load(47, Precision::F32);
        let size = "takes 48 bytes, but this device takes at most 47 in one tensor (gpu: tiny); use another device, such as `cpu`";
        assert_eq!(words, Err(format!("tensor `words.weight` {size}")));
        assert_eq!(linear, Err(format!("tensor `a` {size}")));
        assert_eq!(load(24, Precision::F16), [Ok(()), Ok(())], "f16 takes half the memory");
        assert!(load(23, Precision::F16).iter().all(Result::is_err));
    }
}

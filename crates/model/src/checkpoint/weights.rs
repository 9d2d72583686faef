//! `Weights`: loads the tensors of a safetensors file as Burn layers.

use std::fmt;
use std::path::Path;

use burn::module::Param;
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Precision};

/// The tensors of a `model.safetensors`. Its methods load them as Burn layers on one device.
pub struct Weights<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    device: &'a Device,
    precision: Precision,
}

impl fmt::Debug for Weights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("path", &self.path)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

/// Reads the file at `path`.
///
/// # Errors
///
/// [`Error::Read`], naming the file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

impl<'a> Weights<'a> {
    /// Parses the header of a file whose content is `bytes`. `path` is used only in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if it is not a safetensors file.
    pub fn parse(path: &'a Path, bytes: &'a [u8], device: &'a Device) -> Result<Self, Error> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|source| Error::Weights { path: path.into(), source })?;
        Ok(Self { path, tensors, device, precision: Precision::F32 })
    }

    /// Returns the same weights for layers that compute in `precision` instead of f32.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Returns the device of the layers.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Returns whether the file has a tensor called `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// Returns the elements of the tensor `name` in row-major order. The tensor must have this
    /// shape.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`], [`Error::TensorShape`] or [`Error::TensorType`], naming file and
    /// tensor.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| Error::MissingTensor { path: self.path.into(), name: name.to_owned() })?;
        if view.shape() != shape {
            return Err(Error::TensorShape {
                path: self.path.into(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: view.shape().to_vec(),
            });
        }
        match view.dtype() {
            Dtype::F32 => Ok(convert(view.data(), f32::from_le_bytes)),
            Dtype::F16 => Ok(convert(view.data(), |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(convert(view.data(), |bytes| bf16::from_le_bytes(bytes).to_f32())),
            other => Err(Error::TensorType {
                path: self.path.into(),
                name: name.to_owned(),
                found: format!("{other:?}"),
            }),
        }
    }

    /// Loads `{name}.weight` `[rows, width]` as an embedding.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn embedding(&self, name: &str, [rows, width]: [usize; 2]) -> Result<Embedding, Error> {
        let values = self.take(&format!("{name}.weight"), &[rows, width])?;
        Ok(Embedding { weight: self.param(values, [rows, width]) })
    }

    /// Loads `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]` as a linear layer.
    ///
    /// Several names become one wider layer, which has the outputs of the first name, then those of
    /// the second, and so on.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn linear(&self, names: &[&str], inputs: usize, outputs: usize) -> Result<Linear, Error> {
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
            bias.extend(self.take(&format!("{name}.bias"), &[outputs])?);
        }
        let bias = Some(self.param(bias, [width]));
        Ok(Linear { weight: self.param(weight, [inputs, width]), bias })
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
        let mut norm = LayerNormConfig::new(width).with_epsilon(epsilon).init(self.device);
        let param = |part: &str| {
            let values = TensorData::new(self.take(&format!("{name}.{part}"), &[width])?, [width]);
            Ok(Param::from_tensor(Tensor::<1>::from_data(values, self.device)))
        };
        norm.gamma = param(weight)?;
        norm.beta = Some(param(bias)?);
        Ok(norm)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        let tensor: Tensor<D> = Tensor::from_data(TensorData::new(values, shape), self.device);
        Param::from_tensor(tensor.cast(self.precision.dtype()))
    }
}

fn convert<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&chunk| element(chunk)).collect()
}

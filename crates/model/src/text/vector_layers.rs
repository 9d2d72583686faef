//! The layers that sentence-transformers has between the pooling and a text's vector.

use std::path::Path;

use burn::nn::Linear;
use burn::tensor::{Device, Tensor, activation};
use serde_json::Value;

use super::modules::{After, Modules};
use crate::checkpoint::{JsonFile, WeightFiles, Weights};
use crate::encoder::Activation;
use crate::{Error, SelectedDevice};

/// The settings of the layers, before their weights are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LayerConfigs(Vec<LayerConfig>);

#[derive(Clone, Debug, PartialEq)]
enum LayerConfig {
    Dense { folder: String, outputs: usize, inputs: usize, bias: bool, activation: Function },
    Normalize,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Identity,
    Sigmoid,
    Other(Activation),
}

/// A layer on its device.
pub(super) enum VectorLayer {
    Dense(Linear, Function),
    Normalize,
}

impl LayerConfigs {
    /// Reads the settings of the modules after the pooling. `hidden` is the length of the pooled
    /// vector. A scaling to length 1 after the last layer is left out; it is a setting of the
    /// pooling.
    pub(super) fn read(directory: &Path, modules: &Modules, hidden: usize) -> Result<Self, Error> {
        let mut layers = Vec::new();
        let mut width = hidden;
        let last_dense = modules.after.iter().rposition(|module| matches!(module, After::Dense(_)));
        for (place, module) in modules.after.iter().enumerate() {
            match module {
                After::Dense(folder) => {
                    let file = JsonFile::read(&directory.join(folder).join("config.json"))?;
                    let layer = dense(&file, folder, width)?;
                    if let LayerConfig::Dense { outputs, .. } = layer {
                        width = outputs;
                    }
                    layers.push(layer);
                }
                After::Normalize(folder) => {
                    let file = directory.join(folder).join("config.json");
                    if let Some(file) = JsonFile::read_if_there(&file)? {
                        check_names(&file)?;
                    }
                    if last_dense.is_some_and(|dense| place < dense) {
                        layers.push(LayerConfig::Normalize);
                    }
                }
            }
        }
        Ok(Self(layers))
    }

    /// Returns the length of the vector that the layers compute from one of length `hidden`.
    pub(super) fn width(&self, hidden: usize) -> usize {
        let widths = self.0.iter().rev().find_map(|layer| match layer {
            LayerConfig::Dense { outputs, .. } => Some(*outputs),
            LayerConfig::Normalize => None,
        });
        widths.unwrap_or(hidden)
    }

    /// Loads the layers' weights.
    pub(super) fn load(
        &self,
        directory: &Path,
        device: &SelectedDevice,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<VectorLayer>, Error> {
        let layer = |layer: &LayerConfig| match layer {
            LayerConfig::Normalize => Ok(VectorLayer::Normalize),
            LayerConfig::Dense { folder, outputs, inputs, bias, activation } => {
                let files = WeightFiles::read(&directory.join(folder))?;
                let weights = Weights::parse(&files, device.device())?.within(device);
                let linear = weights.linear_or_matrix("linear", [*inputs, *outputs], *bias)?;
                warnings.extend(weights.warnings(None));
                Ok(VectorLayer::Dense(linear, *activation))
            }
        };
        self.0.iter().map(layer).collect()
    }
}

/// Reads the `config.json` of a `Dense` module, whose input has `width` numbers.
fn dense(file: &JsonFile, folder: &str, width: usize) -> Result<LayerConfig, Error> {
    check_names(file)?;
    if file.flag_or("use_residual", false)? {
        return Err(file.unsupported("use_residual", "true", "false"));
    }
    let inputs = file.size("in_features")?;
    if inputs != width {
        let supported = format!("{width}, the length of the vector before it");
        return Err(file.unsupported("in_features", &inputs.to_string(), supported));
    }
    Ok(LayerConfig::Dense {
        folder: folder.to_owned(),
        outputs: file.size("out_features")?,
        inputs,
        bias: file.flag_or("bias", true)?,
        activation: function(file)?,
    })
}

/// Returns the activation, which is named by its class in `PyTorch`. By default it is Tanh.
fn function(file: &JsonFile) -> Result<Function, Error> {
    let class = file.text_or("activation_function", "torch.nn.modules.activation.Tanh")?;
    let name = class.strip_prefix("torch.nn.").and_then(|class| class.rsplit('.').next());
    match name {
        Some("Identity") => Ok(Function::Identity),
        Some("Sigmoid") => Ok(Function::Sigmoid),
        Some("Tanh") => Ok(Function::Other(Activation::Tanh)),
        Some("ReLU") => Ok(Function::Other(Activation::Relu)),
        Some("GELU") => Ok(Function::Other(Activation::Gelu)),
        _ => {
            let supported = "Identity, Tanh, ReLU, GELU and Sigmoid of torch.nn";
            Err(file.unsupported("activation_function", class, supported))
        }
    }
}

/// Refuses a module that computes from, or replaces, anything but the text's vector, and a module
/// with a setting that is not known.
fn check_names(file: &JsonFile) -> Result<(), Error> {
    const KNOWN: [&str; 5] =
        ["activation_function", "bias", "in_features", "out_features", "use_residual"];
    for (key, value) in file.settings() {
        let is_name = matches!(key, "module_input_name" | "module_output_name");
        if is_name && value == "sentence_embedding" || KNOWN.contains(&key) {
            continue;
        }
        let supported = if is_name { "sentence_embedding" } else { "only the usual settings" };
        return Err(file.unsupported(key, text(value).as_str(), supported));
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl VectorLayer {
    /// Maps `[texts, inputs]` to `[texts, outputs]`.
    pub(super) fn forward(&self, vectors: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(linear, function) => {
                let vectors = linear.forward(vectors);
                match function {
                    Function::Identity => vectors,
                    Function::Sigmoid => activation::sigmoid(vectors),
                    Function::Other(activation) => activation.forward(vectors),
                }
            }
            Self::Normalize => {
                let lengths = vectors.clone().powi_scalar(2).sum_dim(1).sqrt();
                vectors / lengths.clamp_min(1e-12)
            }
        }
    }

    /// Returns the device of the layer, if it has weights.
    pub(super) fn device(&self) -> Option<Device> {
        match self {
            Self::Dense(linear, _) => Some(linear.weight.device()),
            Self::Normalize => None,
        }
    }
}

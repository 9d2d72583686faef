//! The classification head.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::{Activation, HeadConfig};
use crate::Error;
use crate::checkpoint::Weights;

/// A classification head, which maps the first token's vector to one logit per class.
#[derive(Module, Debug)]
pub struct Head {
    /// The hidden layer, `[hidden, hidden]`.
    pub dense: Linear,
    /// The output layer, `[hidden, classes]`.
    pub output: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Head {
    /// Loads the head's tensors. `prefix` is the prefix of the encoder's tensors, among which some
    /// architectures store the head's hidden layer.
    ///
    /// # Errors
    ///
    /// As [`Weights::take`].
    pub fn load(
        weights: &Weights<'_>,
        prefix: &str,
        config: &HeadConfig,
        hidden: usize,
        classes: usize,
    ) -> Result<Self, Error> {
        let prefix = if config.dense_in_encoder { prefix } else { "" };
        let dense = format!("{prefix}{}", config.dense);
        Ok(Self {
            dense: weights.linear(&[&dense], hidden, hidden)?,
            output: weights.linear(&[config.output], hidden, classes)?,
            activation: config.activation,
        })
    }

    /// Builds a head from its layers, for training.
    #[must_use]
    pub fn new(dense: Linear, output: Linear, activation: Activation) -> Self {
        Self { dense, output, activation }
    }

    /// Returns the device that computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.dense.weight.device()
    }

    /// Maps the encoder's vectors, `[batch, tokens, hidden]`, to logits, `[batch, classes]`.
    #[must_use]
    pub fn forward(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch, _, width] = hidden.dims();
        let first = hidden.slice([0..batch, 0..1]).reshape([batch, width]);
        self.output.forward(self.activation.forward(self.dense.forward(first)))
    }
}

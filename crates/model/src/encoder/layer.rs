//! One transformer layer: attention and a feed-forward network, each with a residual connection and
//! a normalisation.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;

use super::{Activation, Attention, AttentionMask, EncoderConfig, LayerNames};
use crate::Error;
use crate::checkpoint::Weights;

/// A transformer layer: `x = norm(x + attention(x))`, then `x = norm(x +
/// output(activation(feed_forward(x))))`.
#[derive(Module, Debug)]
pub struct Layer {
    /// The attention.
    pub attention: Attention,
    /// The normalisation after the attention.
    pub attention_norm: LayerNorm,
    /// The feed-forward network's first projection.
    pub feed_forward: Linear,
    /// The feed-forward network's second projection.
    pub output: Linear,
    /// The normalisation after the feed-forward network.
    pub output_norm: LayerNorm,
    #[module(skip)]
    activation: Activation,
}

impl Layer {
    pub(super) fn load(
        weights: &Weights<'_>,
        prefix: &str,
        names: &LayerNames,
        config: &EncoderConfig,
    ) -> Result<Self, Error> {
        let EncoderConfig { hidden, feed_forward, norm_epsilon, .. } = *config;
        let name = |part: &str| format!("{prefix}.{part}");
        Ok(Self {
            attention: Attention::load(weights, prefix, names, config)?,
            attention_norm: weights.norm(&name(names.attention_norm), hidden, norm_epsilon)?,
            feed_forward: weights.linear(&[&name(names.feed_forward)], hidden, feed_forward)?,
            output: weights.linear(&[&name(names.output)], feed_forward, hidden)?,
            output_norm: weights.norm(&name(names.output_norm), hidden, norm_epsilon)?,
            activation: config.activation,
        })
    }

    /// Maps `[batch * tokens, hidden]` to the same shape. `rectangle` is `[batch, tokens]`; `mask`
    /// marks padding.
    #[must_use]
    pub fn forward(
        &self,
        hidden: Tensor<2>,
        rectangle: [usize; 2],
        mask: Option<&AttentionMask>,
    ) -> Tensor<2> {
        let attended = self.attention.forward(hidden.clone(), rectangle, mask);
        let hidden = self.attention_norm.forward(hidden + attended);
        let wide = self.activation.forward(self.feed_forward.forward(hidden.clone()));
        self.output_norm.forward(hidden + self.output.forward(wide))
    }
}

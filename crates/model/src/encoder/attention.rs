//! Self-attention over several heads.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::{AttentionMask, EncoderConfig, LayerNames};
use crate::Error;
use crate::checkpoint::Weights;

/// Multi-head attention. Each head computes `softmax(query keyᵗ / √width) value`, leaving out
/// padding, and a projection combines the outputs of all heads.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value in one matrix product, `[hidden, 3 * hidden]`.
    ///
    /// One wide product is faster than three narrow ones: on an H100, a product four times as wide
    /// took only two thirds of the time per column. This gains more than it costs to copy the three
    /// parts out of the result.
    pub query_key_value: Linear,
    /// The projection of the heads' outputs, which are side by side, `[hidden, hidden]`.
    pub output: Linear,
    heads: usize,
}

impl Attention {
    pub(super) fn load(
        weights: &Weights<'_>,
        prefix: &str,
        names: &LayerNames,
        config: &EncoderConfig,
    ) -> Result<Self, Error> {
        let hidden = config.hidden;
        let name = |part: &str| format!("{prefix}.{part}");
        let [query, key, value] = names.query_key_value.map(name);
        Ok(Self {
            query_key_value: weights.linear(&[&query, &key, &value], hidden, hidden)?,
            output: weights.linear(&[&name(names.attention_output)], hidden, hidden)?,
            heads: config.heads,
        })
    }

    /// Returns the number of heads.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Maps `[batch * tokens, hidden]` to the same shape. Pays no attention to the tokens that
    /// `mask` marks as padding.
    #[must_use]
    pub fn forward(
        &self,
        hidden: Tensor<2>,
        [batch, tokens]: [usize; 2],
        mask: Option<&AttentionMask>,
    ) -> Tensor<2> {
        let [_, width] = hidden.dims();
        let heads = [batch, tokens, self.heads, width / self.heads];
        let projected = self.query_key_value.forward(hidden);
        let part = |number| {
            projected.clone().narrow(1, number * width, width).reshape(heads).swap_dims(1, 2)
        };
        let (boolean, bias) = match mask {
            None => (None, None),
            Some(AttentionMask::Bias(bias)) => (None, Some(bias.clone())),
            Some(AttentionMask::Boolean(padding)) => {
                (Some(padding.clone().expand([batch, self.heads, tokens, tokens])), None)
            }
        };
        // Burn uses its fused kernels ("flash attention") only with default options and without a
        // bias.
        let options = AttentionModuleOptions::default();
        let mixed = attention(part(0), part(1), part(2), boolean, bias, options);
        self.output.forward(mixed.swap_dims(1, 2).reshape([batch * tokens, width]))
    }
}

//! One transformer layer.

use crate::attention::Attention;
use crate::linear::{Linear, Workspace};
use crate::norm::Norm;
use crate::rows;
use crate::weights::{Activation, LayerWeights, Precision};

/// A transformer layer for the tokens of several texts, stacked in one matrix.
pub(crate) struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    feed_forward: Linear,
    output: Linear,
    output_norm: Norm,
    heads: usize,
    activation: Activation,
}

/// Working memory of one layer. The next layer uses it again.
#[derive(Default)]
pub(crate) struct Scratch {
    projected: Vec<f32>,
    attention: Attention,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    product: Vec<f32>,
    pub(crate) workspace: Workspace,
}

impl Layer {
    pub(crate) fn new(
        weights: LayerWeights,
        heads: usize,
        activation: Activation,
        precision: Precision,
    ) -> Self {
        Self {
            query_key_value: Linear::new(weights.query_key_value, precision),
            attention_output: Linear::new(weights.attention_output, precision),
            attention_norm: Norm::new(weights.attention_norm),
            feed_forward: Linear::new(weights.feed_forward, precision),
            output: Linear::new(weights.output, precision),
            output_norm: Norm::new(weights.output_norm),
            heads,
            activation,
        }
    }

    /// Replaces `hidden`, `[tokens, hidden]`, by the layer's output, on `threads` threads.
    /// `lengths` has the number of tokens of each text.
    pub(crate) fn forward(
        &self,
        hidden: &mut [f32],
        lengths: &[usize],
        scratch: &mut Scratch,
        threads: usize,
    ) {
        let Scratch { projected, attention, mixed, wide, product, workspace } = scratch;
        self.query_key_value.product(hidden, projected, workspace, threads);
        rows::add_bias(projected, self.query_key_value.bias());
        let width = self.attention_output.bias().len();
        attention.forward(projected, lengths, [self.heads, width], mixed, &mut workspace.0);
        self.attention_output.product(mixed, product, workspace, threads);
        self.attention_norm.forward_sum(hidden, product, self.attention_output.bias());

        self.feed_forward.product(hidden, wide, workspace, threads);
        rows::activate(wide, self.feed_forward.bias(), self.activation);
        self.output.product(wide, product, workspace, threads);
        self.output_norm.forward_sum(hidden, product, self.output.bias());
    }
}

//! One transformer layer.

use super::attention::Attending;
use super::kernels;
use super::linear::CpuLinear;
use super::matrix::Tiles;
use super::norm::CpuNorm;
use crate::Precision;
use crate::encoder::{Activation, EncoderConfig, Layer};

/// As [`Layer`], for the tokens of texts that stand one below the other.
pub(super) struct CpuLayer {
    query_key_value: CpuLinear,
    attention_output: CpuLinear,
    attention_norm: CpuNorm,
    feed_forward: CpuLinear,
    output: CpuLinear,
    output_norm: CpuNorm,
    heads: usize,
    activation: Activation,
}

/// Working memory, used again by the next layer.
#[derive(Default)]
pub(super) struct Scratch {
    projected: Vec<f32>,
    attending: Attending,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    product: Vec<f32>,
    pub(super) tiles: Tiles,
}

impl CpuLayer {
    pub(super) fn new(layer: Layer, config: &EncoderConfig, precision: Precision) -> Self {
        let Layer { attention, attention_norm, feed_forward, output, output_norm, .. } = layer;
        let epsilon = config.norm_epsilon;
        let linear = |linear| CpuLinear::new(linear, precision);
        Self {
            query_key_value: linear(attention.query_key_value),
            attention_output: linear(attention.output),
            attention_norm: CpuNorm::new(attention_norm, epsilon),
            feed_forward: linear(feed_forward),
            output: linear(output),
            output_norm: CpuNorm::new(output_norm, epsilon),
            heads: config.heads,
            activation: config.activation,
        }
    }

    /// `[tokens, hidden]` to the same, in its place, on so many threads.
    pub(super) fn forward(
        &self,
        hidden: &mut [f32],
        lengths: &[usize],
        scratch: &mut Scratch,
        threads: usize,
    ) {
        let Scratch { projected, attending, mixed, wide, product, tiles } = scratch;
        self.query_key_value.product(hidden, projected, tiles, threads);
        for row in projected.chunks_exact_mut(self.query_key_value.bias.len()) {
            kernels::add_bias(row, &self.query_key_value.bias);
        }
        let width = self.attention_output.bias.len();
        attending.attend(projected, lengths, [self.heads, width], mixed, tiles);
        self.attention_output.product(mixed, product, tiles, threads);
        self.attention_norm.forward_sum(hidden, product, &self.attention_output.bias);

        self.feed_forward.product(hidden, wide, tiles, threads);
        for row in wide.chunks_exact_mut(self.feed_forward.bias.len()) {
            kernels::activate(row, &self.feed_forward.bias, self.activation);
        }
        self.output.product(wide, product, tiles, threads);
        self.output_norm.forward_sum(hidden, product, &self.output.bias);
    }
}

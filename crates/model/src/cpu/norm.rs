//! Layer normalisation, with what is added before it.

use burn::nn::LayerNorm;

use super::kernels::{self, values};

/// To mean 0 and variance 1, then scaled and shifted.
pub(super) struct CpuNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl CpuNorm {
    #[expect(clippy::cast_possible_truncation, reason = "it is added to numbers of that size")]
    pub(super) fn new(norm: LayerNorm, epsilon: f64) -> Self {
        let scale = values(norm.gamma.val());
        let shift = norm.beta.map_or_else(|| vec![0.0; scale.len()], |beta| values(beta.val()));
        Self { scale, shift, epsilon: epsilon as f32 }
    }

    /// Each row of `rows` normalised.
    pub(super) fn forward(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.scale.len()) {
            kernels::normalise(row, &self.scale, &self.shift, self.epsilon);
        }
    }

    /// Each row of `rows`, with its row of `more` and `bias` added, normalised.
    pub(super) fn forward_sum(&self, rows: &mut [f32], more: &[f32], bias: &[f32]) {
        let width = self.scale.len();
        for (row, more) in rows.chunks_exact_mut(width).zip(more.chunks_exact(width)) {
            kernels::add(row, more, bias);
            kernels::normalise(row, &self.scale, &self.shift, self.epsilon);
        }
    }
}

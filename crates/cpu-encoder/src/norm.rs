//! Layer normalisation.

use crate::rows;
use crate::weights::NormWeights;

pub(crate) struct Norm(NormWeights);

impl Norm {
    pub(crate) fn new(weights: NormWeights) -> Self {
        Self(weights)
    }

    /// Normalises each row.
    pub(crate) fn forward(&self, rows: &mut [f32]) {
        rows::normalise(rows, &self.0.scale, &self.0.shift, self.0.epsilon);
    }

    /// Adds `bias` and the row of `more` with the same number to each row, then normalises it.
    pub(crate) fn forward_sum(&self, rows: &mut [f32], more: &[f32], bias: &[f32]) {
        let NormWeights { scale, shift, epsilon } = &self.0;
        rows::normalise_sum(rows, [more, bias], [scale, shift], *epsilon);
    }
}

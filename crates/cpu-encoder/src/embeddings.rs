//! Turning token ids into vectors.

use std::iter;

use crate::layer::Scratch;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::rows;
use crate::weights::{EmbeddingWeights, Precision};

/// The embeddings. A token's embedding is the normalised sum of the vectors of the token and of its
/// position, projected to the encoder's width if the embeddings have another one.
pub(crate) struct Embeddings {
    /// `[vocabulary, width]`.
    tokens: Vec<f32>,
    /// `[positions, width]`.
    positions: Vec<f32>,
    norm: Norm,
    projection: Option<Linear>,
    width: usize,
}

impl Embeddings {
    pub(crate) fn new(weights: EmbeddingWeights) -> Self {
        let EmbeddingWeights { tokens, positions, norm, projection } = weights;
        let width = norm.scale.len();
        let projection = projection.map(|weights| Linear::new(weights, Precision::F32));
        Self { tokens, positions, norm: Norm::new(norm), projection, width }
    }

    /// Returns the encoder's width: the length of a token's vector after the projection.
    pub(crate) fn hidden(&self) -> usize {
        self.projection.as_ref().map_or(self.width, |projection| projection.bias().len())
    }

    /// Returns the vectors of all tokens, `[tokens of all texts, hidden]`.
    pub(crate) fn forward(&self, texts: &[&[u32]], scratch: &mut Scratch) -> Vec<f32> {
        let width = self.width;
        let tokens = texts.iter().map(|text| text.len()).sum::<usize>();
        let mut rows = Vec::with_capacity(tokens * width);
        for text in texts {
            for (&id, position) in iter::zip(*text, self.positions.chunks_exact(width)) {
                let token = &self.tokens[id as usize * width..][..width];
                rows.extend(iter::zip(token, position).map(|(token, position)| token + position));
            }
        }
        self.norm.forward(&mut rows);
        let Some(projection) = &self.projection else { return rows };
        let mut projected = Vec::new();
        projection.product(&rows, &mut projected, &mut scratch.workspace, 1);
        rows::add_bias(&mut projected, projection.bias());
        projected
    }
}

//! Turning token ids into vectors.

use burn::module::Module;
use burn::nn::{Embedding, LayerNorm, Linear};
use burn::tensor::{Device, Int, Tensor};

use super::EncoderConfig;
use crate::Error;
use crate::checkpoint::Weights;

/// The embeddings. A token's embedding is the normalised sum of the vectors of the token, its
/// position and its type, projected to the encoder's width if the embeddings have another one.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// One vector per token of the vocabulary.
    pub words: Embedding,
    /// One vector per position.
    pub positions: Embedding,
    /// One vector per token type. Only the first is used, because a request is one text, never a
    /// pair.
    pub token_types: Option<Embedding>,
    /// The normalisation of the sum.
    pub norm: LayerNorm,
    /// Projection from the embeddings' width to the encoder's, in ELECTRA.
    pub project: Option<Linear>,
    first_position: usize,
}

impl Embeddings {
    pub(super) fn load(
        weights: &Weights<'_>,
        prefix: &str,
        config: &EncoderConfig,
    ) -> Result<Self, Error> {
        let width = config.embedding;
        let name = |part: &str| format!("{prefix}embeddings.{part}");
        let token_types = match config.token_types {
            0 => None,
            rows => Some(weights.embedding(&name("token_type_embeddings"), [rows, width])?),
        };
        let project = (width != config.hidden).then(|| {
            weights.linear(&[&format!("{prefix}embeddings_project")], width, config.hidden)
        });
        Ok(Self {
            words: weights.embedding(&name("word_embeddings"), [config.vocabulary, width])?,
            positions: weights
                .embedding(&name("position_embeddings"), [config.positions, width])?,
            token_types,
            norm: weights.norm(&name("LayerNorm"), width, config.norm_epsilon)?,
            project: project.transpose()?,
            first_position: config.first_position,
        })
    }

    /// Returns the device of the vectors.
    #[must_use]
    pub fn device(&self) -> Device {
        self.words.weight.device()
    }

    /// Maps token ids, `[batch, tokens]`, to vectors, `[batch, tokens, hidden]`.
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let first = self.first_position;
        let mut positions = self.positions.weight.val().narrow(0, first, length);
        if let Some(types) = &self.token_types {
            positions = positions + types.weight.val().narrow(0, 0, 1);
        }
        let sum = self.words.forward(tokens) + positions.unsqueeze();
        let normal = self.norm.forward(sum);
        match &self.project {
            Some(project) => project.forward(normal),
            None => normal,
        }
    }
}

//! The transformer encoder that the BERT family shares, for inference and training.
//!
//! BERT, `MiniLM`, ELECTRA, `DistilBERT` and `RoBERTa` have the same encoder. They differ in the
//! tensors' names, in the number of a text's first position (`RoBERTa` does not count from 0), in
//! the head and in their sizes. [`TensorNames`] holds the names, [`EncoderConfig`] the rest.

mod attention;
mod config;
mod embeddings;
mod head;
mod layer;
mod padded;

use burn::module::Module;
use burn::tensor::{FloatDType, Int, Tensor};

pub use attention::Attention;
pub use config::{Activation, EncoderConfig, HeadConfig, LayerNames, TensorNames};
pub use embeddings::Embeddings;
pub use head::Head;
pub use layer::Layer;
pub use padded::{AttentionMask, Masking, Padded};

use crate::Error;
use crate::checkpoint::Weights;

/// An encoder that turns token ids into one vector per token.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Vectors of tokens and positions.
    pub embeddings: Embeddings,
    /// The transformer layers, first to last.
    pub layers: Vec<Layer>,
}

impl Encoder {
    /// Loads the encoder from tensors whose names start with `prefix`.
    ///
    /// # Errors
    ///
    /// As [`Weights::take`].
    pub fn load(
        weights: &Weights<'_>,
        prefix: &str,
        names: &TensorNames,
        config: &EncoderConfig,
    ) -> Result<Self, Error> {
        let layer = |number| {
            let prefix = format!("{prefix}{}.{number}", names.layers);
            Layer::load(weights, &prefix, &names.layer, config)
        };
        Ok(Self {
            embeddings: Embeddings::load(weights, prefix, config)?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the last layer's vectors, `[batch, tokens, hidden]`. They are in f32, whatever the
    /// precision of the weights is. The vectors of padding have no meaning.
    #[must_use]
    pub fn forward(&self, batch: &Padded, masking: Masking) -> Tensor<3> {
        let device = self.embeddings.device();
        let mask = batch.attention_mask(masking, self.precision(), &device);
        self.forward_tokens(batch.tokens(&device), mask.as_ref())
    }

    /// Returns the precision of the weights.
    #[must_use]
    pub fn precision(&self) -> FloatDType {
        self.embeddings.words.weight.val().dtype().into()
    }

    /// Does the same as [`forward`](Self::forward) for token ids, `[batch, tokens]`, that are
    /// already on the device.
    #[must_use]
    pub fn forward_tokens(
        &self,
        tokens: Tensor<2, Int>,
        mask: Option<&AttentionMask>,
    ) -> Tensor<3> {
        let rectangle @ [batch, length] = tokens.dims();
        let hidden = self.embeddings.forward(tokens);
        let [_, _, width] = hidden.dims();
        // Burn selects the kernel of a matrix product by the number of rows of a single matrix. The
        // tokens of all texts are therefore stacked in one matrix. With a matrix for each text, a
        // large batch of short texts would get the kernel that is fastest for one short text.
        let hidden = hidden.reshape([batch * length, width]);
        let layers = self.layers.iter();
        let hidden = layers.fold(hidden, |hidden, layer| layer.forward(hidden, rectangle, mask));
        hidden.cast(FloatDType::F32).reshape([batch, length, width])
    }
}

//! The transformer encoder that the BERT family shares, for inference and for training alike.
//!
//! BERT, `MiniLM`, ELECTRA, `DistilBERT` and `RoBERTa` differ in the names of their tensors, in where positions start
//! and in the head on top, not in the encoder; [`EncoderConfig`] holds the sizes and [`TensorNames`] the names.

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

/// Token ids in, one vector per token out.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Tokens and positions to vectors.
    pub embeddings: Embeddings,
    /// The transformer layers, first to last.
    pub layers: Vec<Layer>,
}

impl Encoder {
    /// Takes the encoder's tensors, whose names start with `prefix`.
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

    /// The last layer's vectors, `[batch, tokens, hidden]`, in f32 whatever the weights are in. Those of padding mean nothing.
    #[must_use]
    pub fn forward(&self, batch: &Padded, masking: Masking) -> Tensor<3> {
        let device = self.embeddings.device();
        let mask = batch.attention_mask(masking, self.precision(), &device);
        self.forward_tokens(batch.tokens(&device), mask.as_ref())
    }

    /// What the weights are in.
    #[must_use]
    pub fn precision(&self) -> FloatDType {
        self.embeddings.words.weight.val().dtype().into()
    }

    /// [`forward`](Self::forward) of token ids that are on the device already, `[batch, tokens]`.
    #[must_use]
    pub fn forward_tokens(
        &self,
        tokens: Tensor<2, Int>,
        mask: Option<&AttentionMask>,
    ) -> Tensor<3> {
        let rectangle @ [batch, length] = tokens.dims();
        let hidden = self.embeddings.forward(tokens);
        let [_, _, width] = hidden.dims();
        // As a plain matrix, whose products are tuned by how many tokens there are in all.
        let hidden = hidden.reshape([batch * length, width]);
        let layers = self.layers.iter();
        let hidden = layers.fold(hidden, |hidden, layer| layer.forward(hidden, rectangle, mask));
        hidden.cast(FloatDType::F32).reshape([batch, length, width])
    }
}

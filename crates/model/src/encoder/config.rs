//! Sizes and tensor names of an encoder.

use burn::tensor::{Tensor, activation};

/// Sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Rows of the position embedding.
    pub positions: usize,
    /// First row of the position embedding that is used.
    pub first_position: usize,
    /// Rows of the token type embedding; 0 if the architecture has none.
    pub token_types: usize,
    /// Width of the embeddings. If it differs from `hidden`, a projection to `hidden` follows.
    pub embedding: usize,
    /// Width of a token's vector.
    pub hidden: usize,
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Number of attention heads; divides `hidden`.
    pub heads: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Added to the variance by each layer normalisation, so that it never divides by zero.
    pub norm_epsilon: f64,
    /// The feed-forward network's activation.
    pub activation: Activation,
}

impl EncoderConfig {
    /// Returns the most tokens that one text may have.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.positions - self.first_position
    }
}

/// A classification head: `output(activation(dense(first token)))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadConfig {
    /// Name of the hidden layer's tensors, after the encoder's prefix if `dense_in_encoder` is set.
    pub dense: &'static str,
    /// Whether the hidden layer is stored among the encoder's tensors, as BERT's pooler is.
    pub dense_in_encoder: bool,
    /// Name of the output layer's tensors.
    pub output: &'static str,
    /// Activation after the hidden layer.
    pub activation: Activation,
}

/// Names of an encoder's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorNames {
    /// Prefix of every name, including the dot at its end. In files that contain only the encoder,
    /// names have no prefix.
    pub prefix: &'static str,
    /// The part of a layer's name before its number.
    pub layers: &'static str,
    /// Names of the tensors of one layer, without the layer's own name.
    pub layer: LayerNames,
}

/// Names of the tensors of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNames {
    /// Query, key and value projections.
    pub query_key_value: [&'static str; 3],
    /// The projection of the heads' outputs.
    pub attention_output: &'static str,
    /// The normalisation after the attention.
    pub attention_norm: &'static str,
    /// The feed-forward network's first projection.
    pub feed_forward: &'static str,
    /// The feed-forward network's second projection.
    pub output: &'static str,
    /// The normalisation after the feed-forward network.
    pub output_norm: &'static str,
}

/// An activation function that `config.json` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: GELU with the error function.
    Gelu,
    /// `gelu_new`: the approximation of GELU with the hyperbolic tangent, which has several names.
    GeluApproximate,
    /// `relu`.
    Relu,
    /// `tanh`.
    Tanh,
}

impl Activation {
    /// Returns the function that `config.json` calls `name`, if it is supported.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh"
            | "gelu_python_tanh" => Some(Self::GeluApproximate),
            "relu" => Some(Self::Relu),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }

    /// Applies the function to every element.
    #[must_use]
    pub fn forward<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => activation::gelu(tensor),
            Self::GeluApproximate => activation::gelu_approximate(tensor),
            Self::Relu => activation::relu(tensor),
            Self::Tanh => activation::tanh(tensor),
        }
    }
}

//! The weights of an encoder as plain numbers, in the order of memory.

/// All weights of an encoder, and the settings that cannot be derived from them.
#[derive(Clone, Debug)]
pub struct EncoderWeights {
    /// The vectors of tokens and positions.
    pub embeddings: EmbeddingWeights,
    /// The transformer layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Number of attention heads; divides the width of a token's vector.
    pub heads: usize,
    /// The feed-forward network's activation.
    pub activation: Activation,
}

/// The embeddings of tokens and positions.
#[derive(Clone, Debug)]
pub struct EmbeddingWeights {
    /// The vector of each token, `[vocabulary, width]`.
    pub tokens: Vec<f32>,
    /// The vector of each position, `[positions, width]`, beginning with the position of the first
    /// token. If the model adds the same vector to every token, such as that of the first token
    /// type, it must be included in each position.
    pub positions: Vec<f32>,
    /// The normalisation of the sum of a token's and its position's vector.
    pub norm: NormWeights,
    /// The projection to the encoder's width, if the embeddings have another width.
    pub projection: Option<LinearWeights>,
}

/// The weights of one transformer layer. `hidden` is the width of a token's vector.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// The projection from `hidden` to `3 * hidden`: query, key and value of a token.
    pub query_key_value: LinearWeights,
    /// The projection of the heads' outputs, which are side by side, to one vector.
    pub attention_output: LinearWeights,
    /// The normalisation after the attention.
    pub attention_norm: NormWeights,
    /// The projection from `hidden` to the width of the feed-forward network.
    pub feed_forward: LinearWeights,
    /// The projection from the width of the feed-forward network back to `hidden`.
    pub output: LinearWeights,
    /// The normalisation after the feed-forward network.
    pub output_norm: NormWeights,
}

/// A linear layer: `x × weight + bias`.
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// `[inputs, outputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// The weights of a layer normalisation, which brings a row to mean 0 and variance 1, and then
/// scales and shifts it.
#[derive(Clone, Debug)]
pub struct NormWeights {
    /// The factor of each component, `[width]`.
    pub scale: Vec<f32>,
    /// The number that is added to each component, `[width]`.
    pub shift: Vec<f32>,
    /// Added to the variance, so that a constant row does not divide by zero.
    pub epsilon: f32,
}

/// The feed-forward network's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU: `x Φ(x)`, with `Φ` computed by the error function.
    Gelu,
    /// The approximation of GELU by a hyperbolic tangent.
    GeluApproximate,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// The number format of weights and inputs in matrix products; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32, without rounding.
    F32,
    /// bf16, with 8 significant bits and half the memory. Faster than f32 on processors whose
    /// AVX512-BF16 multiplies twice as many numbers at once, such as AMD's, and slower on all
    /// others.
    Bf16,
}

//! The weights of an encoder, as plain numbers in the order of memory.

/// All weights of an encoder, and the sizes that they do not tell.
#[derive(Clone, Debug)]
pub struct EncoderWeights {
    /// Tokens and positions to vectors.
    pub embeddings: EmbeddingWeights,
    /// The transformer layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Attention heads; divides the width of a token's vector.
    pub heads: usize,
    /// The feed-forward network's activation.
    pub activation: Activation,
}

/// The embeddings of tokens and positions.
#[derive(Clone, Debug)]
pub struct EmbeddingWeights {
    /// `[vocabulary, width]`.
    pub tokens: Vec<f32>,
    /// `[positions, width]`, from the position of the first token on. A constant that is added to every token, such as
    /// the embedding of the only token type, is added in here.
    pub positions: Vec<f32>,
    /// Follows the sum of both.
    pub norm: NormWeights,
    /// To the encoder's width, where the embeddings have another.
    pub projection: Option<LinearWeights>,
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// `hidden` to `3 * hidden`: the query, the key and the value of a token.
    pub query_key_value: LinearWeights,
    /// Joins the heads.
    pub attention_output: LinearWeights,
    /// Follows the attention.
    pub attention_norm: NormWeights,
    /// `hidden` to the width of the feed-forward network.
    pub feed_forward: LinearWeights,
    /// Back to `hidden`.
    pub output: LinearWeights,
    /// Follows the feed-forward network.
    pub output_norm: NormWeights,
}

/// `x × weight + bias`.
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// `[inputs, outputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// Layer normalisation: to mean 0 and variance 1, then scaled and shifted.
#[derive(Clone, Debug)]
pub struct NormWeights {
    /// `[width]`.
    pub scale: Vec<f32>,
    /// `[width]`.
    pub shift: Vec<f32>,
    /// Added to the variance, so that a constant row does not divide by zero.
    pub epsilon: f32,
}

/// The feed-forward network's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)`, with the error function.
    Gelu,
    /// The approximation of GELU by a hyperbolic tangent.
    GeluApproximate,
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// The numbers that weights and inputs of the matrix products are rounded to; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Not rounded.
    F32,
    /// 8 significant bits, and half the memory. Faster than f32 on processors of which AVX512-BF16 multiplies twice as
    /// many numbers at once, as AMD's do, and slower on all others.
    Bf16,
}

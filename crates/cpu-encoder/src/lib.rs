//! The transformer encoder of the BERT family on a CPU, from plain slices of weights.
//!
//! General frameworks pad all texts of a batch to the same length, as a GPU needs it, and run one
//! operation after the other. [`Encoder`] stacks the tokens of all texts in one matrix instead, so
//! that no padding is computed. It packs each weight matrix once, not for every product. Between
//! two matrix products it does all operations in one pass over the rows.
//!
//! The speed does not depend on the optimiser's choice of what to inline: every kernel is compiled
//! as a whole for each generation of vector instructions (`simd.rs`). CI compares the speed of
//! matrix products with that of another library (`bench/kernels`).

#![expect(
    clippy::inline_always,
    reason = "code that is not inlined into a kernel is not compiled for the kernel's instructions"
)]

mod attention;
mod bf16;
mod embeddings;
mod encoder;
mod layer;
mod linear;
mod matrix;
mod norm;
mod rows;
mod shares;
mod simd;
mod weights;

pub use bf16::bf16_is_faster;
pub use encoder::{Encoder, Options, Pool};
pub use simd::instructions;
pub use weights::{
    Activation, EmbeddingWeights, EncoderWeights, LayerWeights, LinearWeights, NormWeights,
    Precision,
};

/// Internals that `bench/kernels` times. Not part of the API: anything here may change.
#[doc(hidden)]
pub mod parts {
    pub use crate::linear::{Linear, Workspace};
    pub use crate::simd::limit_lanes;
}

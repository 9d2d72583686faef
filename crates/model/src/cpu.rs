//! `CpuEncoder`: the encoder on a CPU, without padding.
//!
//! Burn's own CPU backend computes the padded rectangle that a GPU wants, one operation after the other. Here the tokens
//! of all texts stand one below the other in one matrix, so that no padding is computed, and what is not a matrix
//! product is fused into one pass. The weights are those of Burn's [`Encoder`], which stays the reference that the tests
//! compare with.

mod attention;
mod embeddings;
mod kernels;
mod layer;
mod linear;
mod matrix;
mod norm;
mod share;

use std::num::NonZeroUsize;

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::warn;

use crate::encoder::{Encoder, EncoderConfig};
use crate::{Error, Precision};
use embeddings::CpuEmbeddings;
use layer::{CpuLayer, Scratch};

/// From token ids to one vector for each text, on threads of its own.
pub(crate) struct CpuEncoder {
    embeddings: CpuEmbeddings,
    layers: Vec<CpuLayer>,
    hidden: usize,
    threads: ThreadPool,
}

/// How a text's token vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Their mean.
    Mean,
    /// The first, which is the special token.
    First,
    /// The largest of each component.
    Max,
}

impl CpuEncoder {
    /// Takes over the weights of `encoder`, which were loaded by `config`; by default as many threads as there are cores.
    pub(crate) fn new(
        encoder: Encoder,
        config: &EncoderConfig,
        threads: Option<NonZeroUsize>,
        precision: Precision,
    ) -> Result<Self, Error> {
        if precision == Precision::Bf16 && !matrix::has_dot_products() {
            warn!("this processor has no instruction for bf16 (AVX512-BF16): f32 is faster here");
        }
        let name = "model-cpu";
        let threads = ThreadPoolBuilder::new()
            .num_threads(threads.map_or(0, NonZeroUsize::get))
            .thread_name(move |number| format!("{name}-{number}"))
            .build()
            .map_err(|error| Error::Thread {
                name: name.into(),
                source: std::io::Error::other(error),
            })?;
        let Encoder { embeddings, layers } = encoder;
        Ok(Self {
            embeddings: CpuEmbeddings::new(embeddings, config),
            layers: layers
                .into_iter()
                .map(|layer| CpuLayer::new(layer, config, precision))
                .collect(),
            hidden: config.hidden,
            threads,
        })
    }

    /// One row of `hidden` numbers for each text, in their order.
    pub(crate) fn forward(&self, texts: &[&[u32]], pool: Pool) -> Vec<f32> {
        let lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        let threads = self.threads.current_num_threads();
        let shares = share::shares(&lengths, threads);
        // A single share has all threads for itself; several have one each, and need not wait for each other.
        let each = if shares.len() == 1 { threads } else { 1 };
        let computed: Vec<_> = self.threads.install(|| {
            let one = |share: Vec<usize>| {
                let members: Vec<_> = share.iter().map(|&place| texts[place]).collect();
                (self.forward_share(&members, pool, each), share)
            };
            shares.into_par_iter().with_max_len(1).map(one).collect()
        });
        let mut rows = vec![0.0; texts.len() * self.hidden];
        for (vectors, share) in computed {
            for (vector, place) in vectors.chunks_exact(self.hidden).zip(share) {
                rows[place * self.hidden..][..self.hidden].copy_from_slice(vector);
            }
        }
        rows
    }

    fn forward_share(&self, texts: &[&[u32]], pool: Pool, threads: usize) -> Vec<f32> {
        let mut scratch = Scratch::default();
        let mut hidden = self.embeddings.forward(texts, &mut scratch);
        let lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        for layer in &self.layers {
            layer.forward(&mut hidden, &lengths, &mut scratch, threads);
        }
        let mut rest = hidden.as_slice();
        let mut pooled = Vec::with_capacity(texts.len() * self.hidden);
        for length in lengths {
            let (tokens, after) = rest.split_at(length * self.hidden);
            match pool {
                Pool::First => pooled.extend(&tokens[..self.hidden]),
                Pool::Mean => pooled.extend(kernels::mean(tokens, self.hidden)),
                Pool::Max => pooled.extend(kernels::max(tokens, self.hidden)),
            }
            rest = after;
        }
        pooled
    }
}

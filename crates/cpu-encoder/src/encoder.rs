//! [`Encoder`]: the embeddings and all layers, with the threads that compute them.

use std::fmt;
use std::num::NonZeroUsize;

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::embeddings::Embeddings;
use crate::layer::{Layer, Scratch};
use crate::rows;
use crate::shares::shares;
use crate::weights::{EncoderWeights, Precision};

/// An encoder that turns token ids into one vector for each text, without padding.
///
/// ```
/// use forebay_cpu_encoder::{
///     Activation, EmbeddingWeights, Encoder, EncoderWeights, NormWeights, Options, Pool,
/// };
///
/// // No layers: the mean of the normalised embeddings of tokens and positions.
/// let norm = NormWeights { scale: vec![1.0; 2], shift: vec![0.0; 2], epsilon: 1e-12 };
/// let embeddings = EmbeddingWeights {
///     tokens: vec![0.0, 1.0, 2.0, 0.0],
///     positions: vec![0.0; 4],
///     norm,
///     projection: None,
/// };
/// let weights =
///     EncoderWeights { embeddings, layers: Vec::new(), heads: 1, activation: Activation::Gelu };
/// let encoder = Encoder::new(weights, Options::default())?;
/// assert_eq!(encoder.forward(&[&[0], &[0, 1]], Pool::Mean), [-1.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Encoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    threads: ThreadPool,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

/// Settings of an [`Encoder`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of threads; by default one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Number format of the products with weights.
    pub precision: Precision,
}

/// How a text's token vectors are combined into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The mean of all token vectors.
    Mean,
    /// The vector of the first token, which is a special token in the BERT family.
    First,
    /// The maximum of each component.
    Max,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: None, precision: Precision::F32 }
    }
}

impl Encoder {
    /// Packs the weights and starts the threads.
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread.
    pub fn new(weights: EncoderWeights, options: Options) -> Result<Self, ThreadPoolBuildError> {
        let EncoderWeights { embeddings, layers, heads, activation } = weights;
        let threads = ThreadPoolBuilder::new()
            .num_threads(options.threads.map_or(0, NonZeroUsize::get))
            .thread_name(|number| format!("model-cpu-{number}"))
            .build()?;
        let layer = |weights| Layer::new(weights, heads, activation, options.precision);
        Ok(Self {
            embeddings: Embeddings::new(embeddings),
            layers: layers.into_iter().map(layer).collect(),
            threads,
        })
    }

    /// Returns one vector for each text, `[texts, hidden]`, in the order of the texts.
    ///
    /// # Panics
    ///
    /// If a token id is not in the vocabulary, or a text has more tokens than there are positions.
    #[must_use]
    pub fn forward(&self, texts: &[&[u32]], pool: Pool) -> Vec<f32> {
        let lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        let threads = self.threads.current_num_threads();
        let shares = shares(&lengths, threads);
        // If there is only one share of texts, all threads compute it together. Otherwise each
        // share is computed by one thread, so that no thread waits for another one.
        let each = if shares.len() == 1 { threads } else { 1 };
        let computed: Vec<_> = self.threads.install(|| {
            let compute = |share: Vec<usize>| {
                let members: Vec<_> = share.iter().map(|&text| texts[text]).collect();
                (self.forward_share(&members, pool, each), share)
            };
            shares.into_par_iter().with_max_len(1).map(compute).collect()
        });
        let hidden = self.embeddings.hidden();
        let mut rows = vec![0.0; texts.len() * hidden];
        for (vectors, share) in computed {
            for (vector, text) in vectors.chunks_exact(hidden).zip(share) {
                rows[text * hidden..][..hidden].copy_from_slice(vector);
            }
        }
        rows
    }

    /// Computes the vectors of one share of the texts, on `threads` threads.
    fn forward_share(&self, texts: &[&[u32]], pool: Pool, threads: usize) -> Vec<f32> {
        let mut scratch = Scratch::default();
        let mut hidden = self.embeddings.forward(texts, &mut scratch);
        let lengths: Vec<_> = texts.iter().map(|text| text.len()).collect();
        for layer in &self.layers {
            layer.forward(&mut hidden, &lengths, &mut scratch, threads);
        }
        let width = self.embeddings.hidden();
        let mut rest = hidden.as_slice();
        let mut pooled = Vec::with_capacity(texts.len() * width);
        for length in lengths {
            let (tokens, after) = rest.split_at(length * width);
            match pool {
                Pool::First => pooled.extend(&tokens[..width]),
                Pool::Mean => pooled.extend(rows::mean(tokens, width)),
                Pool::Max => pooled.extend(rows::max(tokens, width)),
            }
            rest = after;
        }
        pooled
    }
}

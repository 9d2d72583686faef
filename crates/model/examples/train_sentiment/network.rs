//! The network: Forebay's own encoder and head. During training there is dropout between the
//! layers.

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use forebay_model::Architecture;
use forebay_model::burn;
use forebay_model::checkpoint::{JsonFile, WeightFiles, Weights};
use forebay_model::encoder::{Activation, Encoder, Head, Masking, Padded};

use crate::vocabulary::Vocabulary;

/// Number of positions that are kept; `MiniLM` has more.
pub(crate) const POSITIONS: usize = 256;
pub(crate) const CLASSES: usize = 2;

/// A sentiment classifier.
#[derive(Module, Debug)]
pub(crate) struct Network {
    pub(crate) encoder: Encoder,
    pub(crate) head: Head,
    dropout: Dropout,
}

impl Network {
    /// Loads parts of `MiniLM`: the embeddings of all tokens, the first positions and all layers.
    /// Adds a head with random weights.
    pub(crate) fn from_minilm(directory: &Path, device: &Device) -> Result<Self> {
        let config = JsonFile::read(&directory.join("config.json"))?;
        let architecture = Architecture::from_config(&config)?;
        let files = WeightFiles::read(directory)?;
        let weights = Weights::parse(&files, device)?;
        let sizes = architecture.encoder;
        let mut encoder = Encoder::load(&weights, "", &architecture.names, &sizes)?;

        let positions = encoder.embeddings.positions.weight.val().narrow(0, 0, POSITIONS);
        encoder.embeddings.positions = Embedding { weight: Param::from_tensor(positions) };

        let fresh = |outputs| {
            LinearConfig::new(sizes.hidden, outputs)
                .with_initializer(Initializer::Normal { mean: 0.0, std: 0.02 })
                .init(device)
        };
        let head = Head::new(fresh(sizes.hidden), fresh(CLASSES), Activation::Tanh);
        Ok(Self { encoder, head, dropout: DropoutConfig::new(0.1).init() })
    }

    /// Returns this network with `layers` of its layers, evenly spaced and counted from the last, and
    /// with the tokens of `vocabulary` only. The network itself has those of `original`.
    pub(crate) fn reduced(
        &self,
        layers: usize,
        original: &Vocabulary,
        vocabulary: &Vocabulary,
    ) -> Result<Self> {
        let mut reduced = self.clone();
        let all = self.encoder.layers.len();
        reduced.encoder.layers = (1..=layers)
            .map(|layer| self.encoder.layers[layer * all / layers - 1].clone())
            .collect();
        let words = self.encoder.embeddings.words.weight.val();
        let [_, width] = words.dims();
        let device = words.device();
        let words = words.try_into_vec_as::<f32>().context("the CPU computes")?;
        let rows = vocabulary.select(original, &words, width)?;
        let rows = TensorData::new(rows, [vocabulary.len(), width]);
        reduced.encoder.embeddings.words =
            Embedding { weight: Param::from_tensor(Tensor::from_data(rows, &device)) };
        Ok(reduced)
    }

    /// Returns the logits, `[batch, classes]`.
    pub(crate) fn forward(&self, batch: &Padded) -> Tensor<2> {
        let device = self.encoder.embeddings.device();
        let mask = batch.attention_mask(Masking::Bias, FloatDType::F32, &device);
        let embedded = self.encoder.embeddings.forward(batch.tokens(&device));
        let [rows, length, width] = embedded.dims();
        let embedded = embedded.reshape([rows * length, width]);
        let hidden = self.encoder.layers.iter().fold(embedded, |hidden, layer| {
            layer.forward(self.dropout.forward(hidden), [rows, length], mask.as_ref())
        });
        self.head.forward(self.dropout.forward(hidden).reshape([rows, length, width]))
    }

    /// Returns the number of layers, the hidden size, the width of the feed-forward network and the
    /// number of attention heads.
    pub(crate) fn sizes(&self) -> Result<[usize; 4]> {
        let [_, hidden] = self.encoder.embeddings.words.weight.dims();
        let layer = self.encoder.layers.first().context("there are layers")?;
        let [_, feed_forward] = layer.feed_forward.weight.dims();
        Ok([self.encoder.layers.len(), hidden, feed_forward, layer.attention.heads()])
    }
}

//! The network: Forebay's own encoder and head, with dropout between their layers while training.

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use forebay_model::Architecture;
use forebay_model::burn;
use forebay_model::checkpoint::{self, JsonFile, Weights};
use forebay_model::encoder::{Activation, Encoder, Head, Masking, Padded};

use crate::vocabulary::Vocabulary;

/// Number of positions kept from `MiniLM`.
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
    /// Loads the embeddings of the kept tokens, the first positions and all layers, and adds a new
    /// head.
    pub(crate) fn from_minilm(
        directory: &Path,
        vocabulary: &Vocabulary,
        device: &Device,
    ) -> Result<Self> {
        let config = JsonFile::read(&directory.join("config.json"))?;
        let architecture = Architecture::from_config(&config)?;
        let path = directory.join("model.safetensors");
        let bytes = checkpoint::read(&path)?;
        let weights = Weights::parse(&path, &bytes, device)?;
        let sizes = architecture.encoder;
        let mut encoder = Encoder::load(&weights, "", &architecture.names, &sizes)?;

        let width = sizes.embedding;
        let words =
            weights.take("embeddings.word_embeddings.weight", &[sizes.vocabulary, width])?;
        let rows = TensorData::new(vocabulary.select(&words, width), [vocabulary.len(), width]);
        encoder.embeddings.words =
            Embedding { weight: Param::from_tensor(Tensor::from_data(rows, device)) };
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

    /// Returns the layers, hidden size, feed-forward size and number of attention heads.
    pub(crate) fn sizes(&self) -> Result<[usize; 4]> {
        let [_, hidden] = self.encoder.embeddings.words.weight.dims();
        let layer = self.encoder.layers.first().context("there are layers")?;
        let [_, feed_forward] = layer.feed_forward.weight.dims();
        Ok([self.encoder.layers.len(), hidden, feed_forward, layer.attention.heads()])
    }
}

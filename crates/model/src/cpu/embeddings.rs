//! Token ids to vectors.

use super::kernels::{add_bias, values};
use super::layer::Scratch;
use super::linear::CpuLinear;
use super::norm::CpuNorm;
use crate::Precision;
use crate::encoder::{Embeddings, EncoderConfig};

/// The sum of a token's and its place's vector, normalised, and projected where the widths differ.
pub(super) struct CpuEmbeddings {
    /// `[vocabulary, width]`.
    words: Vec<f32>,
    /// The position's vector and the first type's, `[positions, width]`.
    places: Vec<f32>,
    norm: CpuNorm,
    project: Option<CpuLinear>,
    width: usize,
}

impl CpuEmbeddings {
    pub(super) fn new(embeddings: Embeddings, config: &EncoderConfig) -> Self {
        let Embeddings { words, positions, token_types, norm, project, .. } = embeddings;
        let width = config.embedding;
        let mut places = values(positions.weight.val()).split_off(config.first_position * width);
        if let Some(types) = token_types {
            let types = values(types.weight.val());
            places.chunks_exact_mut(width).for_each(|place| add_bias(place, &types[..width]));
        }
        Self {
            words: values(words.weight.val()),
            places,
            norm: CpuNorm::new(norm, config.norm_epsilon),
            project: project.map(|linear| CpuLinear::new(linear, Precision::F32)),
            width,
        }
    }

    /// `[tokens of all texts, hidden]`.
    pub(super) fn forward(&self, texts: &[&[u32]], scratch: &mut Scratch) -> Vec<f32> {
        let width = self.width;
        let mut rows =
            Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() * width);
        for text in texts {
            for (&id, place) in text.iter().zip(self.places.chunks_exact(width)) {
                let word = &self.words[id as usize * width..][..width];
                rows.extend(word.iter().zip(place).map(|(word, place)| word + place));
            }
        }
        self.norm.forward(&mut rows);
        let Some(project) = &self.project else { return rows };
        let mut projected = Vec::new();
        project.product(&rows, &mut projected, &mut scratch.tiles, 1);
        for row in projected.chunks_exact_mut(project.bias.len()) {
            add_bias(row, &project.bias);
        }
        projected
    }
}

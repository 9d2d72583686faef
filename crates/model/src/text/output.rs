//! `TextOutput`: the result of a text model for one text.

use std::fmt::Display;
use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};
use forebay_cpu_encoder::Pool;
use serde::Serialize;

use super::pooling::Pooling;
use super::vector_layers::VectorLayer;
use super::{Scores, Task};
use crate::encoder::{Head, Padded};

/// The result for one text, serialised as the value of its reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TextOutput {
    /// `{"label": "positive", "score": 0.98}`: the most likely label.
    Label(Label),
    /// `[{"label": "positive", "score": 0.98}, ..]`: the `top_k` most likely labels, the most
    /// likely first.
    Labels(Vec<Label>),
    /// `{"embedding": [..]}`.
    Embedding {
        /// The text's vector. It is as long as the model's hidden size, or as the setting
        /// `dimensions` if that is set.
        embedding: Vec<f32>,
    },
}

/// A label of a classifier, with its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// The label's name.
    pub label: String,
    /// The label's score: the logit if the setting `scores` is [`Scores::None`], otherwise a
    /// probability from 0 to 1.
    pub score: f32,
}

/// The step from the encoder's token vectors to one row of numbers for each text.
pub(super) enum Reduce {
    /// A classifier's head, which computes one logit for each label.
    Head(Box<Head>),
    /// The pooling of an embedding, which computes one vector, and the layers after it.
    Pooling(Pooling, Vec<VectorLayer>),
}

/// The step from a text's row of numbers to its output.
pub(super) enum Answers {
    Labels(Labels),
    Vector(Pooling),
}

impl Reduce {
    /// Reduces `[batch, tokens, hidden]` to one row for each text: `[batch, labels]` or `[batch,
    /// components]`.
    pub(super) fn forward(&self, hidden: Tensor<3>, batch: &Padded) -> Tensor<2> {
        match self {
            Self::Head(head) => head.forward(hidden),
            Self::Pooling(pooling, layers) => layers
                .iter()
                .fold(pooling.forward(hidden, batch), |vectors, layer| layer.forward(vectors)),
        }
    }

    /// Returns how the CPU encoder has to pool a text's token vectors for this step.
    pub(super) fn pool(&self) -> Pool {
        match self {
            Self::Head(_) => Pool::First,
            Self::Pooling(pooling, _) => pooling.pool(),
        }
    }

    /// Does the same as [`forward`](Self::forward) when the CPU encoder has already pooled the
    /// tokens in the way that [`pool`](Self::pool) returns. `pooled` has the shape `[rows,
    /// hidden]`; the result has one row for each text, like that of `forward`.
    pub(super) fn forward_pooled(
        &self,
        pooled: Vec<f32>,
        rows: usize,
    ) -> Result<Vec<f32>, impl Display> {
        let width = pooled.len() / rows;
        let tensor = |pooled, device: &Device| {
            Tensor::<2>::from_data(TensorData::new(pooled, [rows, width]), device)
        };
        match self {
            Self::Head(head) => {
                let hidden = tensor(pooled, &head.device()).reshape([rows, 1, width]);
                head.forward(hidden).try_into_vec_as()
            }
            Self::Pooling(_, layers) => {
                // A layer without weights stands only before one with weights.
                let Some(device) = layers.iter().find_map(VectorLayer::device) else {
                    return Ok(pooled);
                };
                let vectors = tensor(pooled, &device);
                layers
                    .iter()
                    .fold(vectors, |vectors, layer| layer.forward(vectors))
                    .try_into_vec_as()
            }
        }
    }
}

impl Answers {
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Labels(_) => Task::TextClassification,
            Self::Vector(_) => Task::TextEmbedding,
        }
    }

    pub(super) fn output(&self, row: &[f32]) -> TextOutput {
        match self {
            Self::Labels(labels) => labels.output(row),
            Self::Vector(pooling) => TextOutput::Embedding { embedding: pooling.finish(row) },
        }
    }
}

/// The names of a classifier's classes and the settings of its results.
pub(super) struct Labels {
    pub(super) names: Vec<String>,
    pub(super) scores: Scores,
    pub(super) top_k: Option<NonZeroUsize>,
}

impl Labels {
    fn output(&self, logits: &[f32]) -> TextOutput {
        let scores = self.scores(logits);
        let mut order: Vec<_> = (0..scores.len()).collect();
        // A stable sort, so that equal scores always keep the order of the classes.
        order.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
        let label = |class: usize| Label { label: self.names[class].clone(), score: scores[class] };
        match self.top_k {
            // Loading has checked that there is at least one class.
            None => TextOutput::Label(label(order[0])),
            Some(top_k) => {
                TextOutput::Labels(order.into_iter().take(top_k.get()).map(label).collect())
            }
        }
    }

    fn scores(&self, logits: &[f32]) -> Vec<f32> {
        match self.scores {
            Scores::None => logits.to_vec(),
            Scores::Sigmoid => logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
            Scores::Softmax => {
                let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<_> = logits.iter().map(|logit| (logit - greatest).exp()).collect();
                let total: f32 = powers.iter().sum();
                powers.into_iter().map(|power| power / total).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{Label, Labels, Scores, TextOutput};

    fn labels(scores: Scores, top_k: usize) -> Labels {
        let names = ["low", "middle", "high"].map(str::to_owned).to_vec();
        Labels { names, scores, top_k: NonZeroUsize::new(top_k) }
    }

    fn label(label: &str, score: f32) -> Label {
        Label { label: label.to_owned(), score }
    }

    #[test]
    fn outputs_serialise_as_the_documented_json() {
        let json = |output: &TextOutput| serde_json::to_string(output).unwrap();
        let one = label("positive", 0.5);
        assert_eq!(json(&TextOutput::Label(one.clone())), r#"{"label":"positive","score":0.5}"#);
        assert_eq!(json(&TextOutput::Labels(vec![one])), r#"[{"label":"positive","score":0.5}]"#);
        let vector = TextOutput::Embedding { embedding: vec![0.5, -1.0] };
        assert_eq!(json(&vector), r#"{"embedding":[0.5,-1.0]}"#);
    }

    #[test]
    fn softmax_gives_valid_probabilities_for_extreme_and_equal_logits() {
        let softmax = labels(Scores::Softmax, 0);
        let even = softmax.output(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(even, TextOutput::Label(label("low", 0.5)));
        let sure = softmax.output(&[-1000.0, -1000.0, 1000.0]);
        assert_eq!(sure, TextOutput::Label(label("high", 1.0)));
    }

    #[test]
    fn sigmoid_scores_each_label_independently() {
        let both = labels(Scores::Sigmoid, 2).output(&[100.0, -100.0, 0.0]);
        assert_eq!(both, TextOutput::Labels(vec![label("low", 1.0), label("high", 0.5)]));
        let sigmoid = labels(Scores::Sigmoid, 9).output(&[f32::MIN, f32::MAX, 0.0]);
        let all = vec![label("middle", 1.0), label("high", 0.5), label("low", 0.0)];
        assert_eq!(sigmoid, TextOutput::Labels(all));
    }

    #[test]
    fn with_scores_none_the_score_is_the_logit() {
        let number = labels(Scores::None, 0).output(&[-3.0, -2.5, -9.0]);
        assert_eq!(number, TextOutput::Label(label("middle", -2.5)));
    }
}

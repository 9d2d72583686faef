//! `TextOutput`: what a text model says about one text.

use std::fmt::Display;
use std::num::NonZeroUsize;

use burn::tensor::{Tensor, TensorData};
use forebay_cpu_encoder::Pool;
use serde::Serialize;

use super::pooling::Pooling;
use super::{Scores, Task};
use crate::encoder::{Head, Padded};

/// The result of one text, serialised as the value of its reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TextOutput {
    /// `{"label": "positive", "score": 0.98}`: the likeliest.
    Label(Label),
    /// `[{"label": "positive", "score": 0.98}, ..]`: as many as were asked for, the likeliest first.
    Labels(Vec<Label>),
    /// `{"embedding": [..]}`.
    Embedding {
        /// The text's vector, `[hidden]`.
        embedding: Vec<f32>,
    },
}

/// One of a classifier's labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// Its name.
    pub label: String,
    /// Its probability, 0 to 1; of a regression, the number.
    pub score: f32,
}

/// From the encoder's vectors to one row of numbers for each text.
pub(super) enum Reduce {
    /// One logit per label.
    Head(Box<Head>),
    /// One vector.
    Pooling(Pooling),
}

/// From such a row to an output.
pub(super) enum Answers {
    Labels(Labels),
    Vector(Pooling),
}

impl Reduce {
    /// `[batch, tokens, hidden]` to one row per text, `[batch, labels]` or `[batch, hidden]`.
    pub(super) fn forward(&self, hidden: Tensor<3>, batch: &Padded) -> Tensor<2> {
        match self {
            Self::Head(head) => head.forward(hidden),
            Self::Pooling(pooling) => pooling.forward(hidden, batch),
        }
    }

    /// What of a text's vectors it needs.
    pub(super) fn pool(&self) -> Pool {
        match self {
            Self::Head(_) => Pool::First,
            Self::Pooling(pooling) => pooling.pool(),
        }
    }

    /// [`forward`](Self::forward) from the vectors that [`pool`](Self::pool) asks for, `[rows, hidden]`.
    pub(super) fn forward_pooled(
        &self,
        pooled: Vec<f32>,
        rows: usize,
    ) -> Result<Vec<f32>, impl Display> {
        let Self::Head(head) = self else { return Ok(pooled) };
        let shape = [rows, 1, pooled.len() / rows];
        let hidden = Tensor::from_data(TensorData::new(pooled, shape), &head.device());
        head.forward(hidden).try_into_vec_as()
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

/// The names of a classifier's classes, and how they are answered.
pub(super) struct Labels {
    pub(super) names: Vec<String>,
    pub(super) scores: Scores,
    pub(super) top_k: Option<NonZeroUsize>,
}

impl Labels {
    fn output(&self, logits: &[f32]) -> TextOutput {
        let scores = self.scores(logits);
        let mut order: Vec<_> = (0..scores.len()).collect();
        // Stable, so that of equals the first comes first and answers repeat.
        order.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
        let label = |class: usize| Label { label: self.names[class].clone(), score: scores[class] };
        match self.top_k {
            // A classifier has a class at least.
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
    fn outputs_are_the_json_of_the_contract() {
        let json = |output: &TextOutput| serde_json::to_string(output).unwrap();
        let one = label("positive", 0.5);
        assert_eq!(json(&TextOutput::Label(one.clone())), r#"{"label":"positive","score":0.5}"#);
        assert_eq!(json(&TextOutput::Labels(vec![one])), r#"[{"label":"positive","score":0.5}]"#);
        let vector = TextOutput::Embedding { embedding: vec![0.5, -1.0] };
        assert_eq!(json(&vector), r#"{"embedding":[0.5,-1.0]}"#);
    }

    #[test]
    fn softmax_does_not_overflow_and_the_first_of_equals_is_answered() {
        let softmax = labels(Scores::Softmax, 0);
        let even = softmax.output(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(even, TextOutput::Label(label("low", 0.5)));
        let sure = softmax.output(&[-1000.0, -1000.0, 1000.0]);
        assert_eq!(sure, TextOutput::Label(label("high", 1.0)));
    }

    #[test]
    fn each_label_has_a_score_of_its_own_where_several_may_be_right() {
        let both = labels(Scores::Sigmoid, 2).output(&[100.0, -100.0, 0.0]);
        assert_eq!(both, TextOutput::Labels(vec![label("low", 1.0), label("high", 0.5)]));
        let sigmoid = labels(Scores::Sigmoid, 9).output(&[f32::MIN, f32::MAX, 0.0]);
        let all = vec![label("middle", 1.0), label("high", 0.5), label("low", 0.0)];
        assert_eq!(sigmoid, TextOutput::Labels(all));
    }

    #[test]
    fn the_numbers_of_a_regression_are_answered_as_they_are() {
        let number = labels(Scores::None, 0).output(&[-3.0, -2.5, -9.0]);
        assert_eq!(number, TextOutput::Label(label("middle", -2.5)));
    }
}

//! `TextOutput`: what a text model says about one text.

use std::fmt::Display;

use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use super::Task;
use super::pooling::Pooling;
use crate::cpu::Pool;
use crate::encoder::{Head, Padded};

/// The result of one text, serialised as the value of its reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TextOutput {
    /// `{"label": "positive", "score": 0.98}`.
    Label {
        /// The most likely label.
        label: String,
        /// Its probability, 0 to 1.
        score: f32,
    },
    /// `{"embedding": [..]}`.
    Embedding {
        /// The text's vector, `[hidden]`.
        embedding: Vec<f32>,
    },
}

/// From the encoder's vectors to outputs.
pub(super) enum Interpreter {
    /// One logit per label.
    Classes { head: Box<Head>, labels: Vec<String> },
    /// One vector per text.
    Vector(Pooling),
}

impl Interpreter {
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Classes { .. } => Task::TextClassification,
            Self::Vector(_) => Task::TextEmbedding,
        }
    }

    /// `[batch, tokens, hidden]` to one row per text, `[batch, labels]` or `[batch, hidden]`.
    pub(super) fn forward(&self, hidden: Tensor<3>, batch: &Padded) -> Tensor<2> {
        match self {
            Self::Classes { head, .. } => head.forward(hidden),
            Self::Vector(pooling) => pooling.forward(hidden, batch),
        }
    }

    /// What of a text's vectors it needs.
    pub(super) fn pool(&self) -> Pool {
        match self {
            Self::Classes { .. } => Pool::First,
            Self::Vector(pooling) => pooling.pool(),
        }
    }

    /// [`forward`](Self::forward) from the vectors that [`pool`](Self::pool) asks for, `[rows, hidden]`.
    pub(super) fn forward_pooled(
        &self,
        pooled: Vec<f32>,
        rows: usize,
    ) -> Result<Vec<f32>, impl Display> {
        let Self::Classes { head, .. } = self else { return Ok(pooled) };
        let shape = [rows, 1, pooled.len() / rows];
        let hidden = Tensor::from_data(TensorData::new(pooled, shape), &head.device());
        head.forward(hidden).try_into_vec_as()
    }

    /// One row of [`forward`](Self::forward) as an output.
    pub(super) fn output(&self, row: &[f32]) -> TextOutput {
        match self {
            Self::Classes { labels, .. } => most_likely(row, labels),
            Self::Vector(pooling) => TextOutput::Embedding { embedding: pooling.finish(row) },
        }
    }
}

/// The label of the greatest logit, with its softmax. The first of equals, so that answers repeat.
fn most_likely(logits: &[f32], labels: &[String]) -> TextOutput {
    let (mut best, mut greatest) = (0, f32::NEG_INFINITY);
    for (class, &logit) in logits.iter().enumerate() {
        if logit > greatest {
            (best, greatest) = (class, logit);
        }
    }
    let total: f32 = logits.iter().map(|logit| (logit - greatest).exp()).sum();
    TextOutput::Label { label: labels[best].clone(), score: 1.0 / total }
}

#[cfg(test)]
mod tests {
    use super::{TextOutput, most_likely};

    #[test]
    fn outputs_are_the_json_of_the_contract() {
        let label = TextOutput::Label { label: "positive".into(), score: 0.5 };
        assert_eq!(serde_json::to_string(&label).unwrap(), r#"{"label":"positive","score":0.5}"#);
        let vector = TextOutput::Embedding { embedding: vec![0.5, -1.0] };
        assert_eq!(serde_json::to_string(&vector).unwrap(), r#"{"embedding":[0.5,-1.0]}"#);
    }

    #[test]
    fn the_score_is_a_softmax_that_does_not_overflow() {
        let labels = ["low".to_owned(), "high".to_owned()];
        let even = most_likely(&[1000.0, 1000.0], &labels);
        assert_eq!(even, TextOutput::Label { label: "low".into(), score: 0.5 });
        let sure = most_likely(&[-1000.0, 1000.0], &labels);
        assert_eq!(sure, TextOutput::Label { label: "high".into(), score: 1.0 });
    }
}

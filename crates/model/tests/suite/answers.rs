//! Compares embeddings and scores with those that the library transformers computes, for every
//! option of a text model.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;

use forebay_model::{
    ClassificationOptions, EmbeddingOptions, Task, TextModel, TextModelOptions, TextOutput,
};
use serde::Deserialize;

use crate::common;

/// The contents of `tests/reference/options.json`, which `options.py` writes.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    embeddings: Vec<Embeddings>,
    labels: BTreeMap<String, Vec<BTreeMap<String, f32>>>,
}

#[derive(Deserialize)]
struct Embeddings {
    options: Options,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Options {
    pooling: String,
    normalize: bool,
    dimensions: Option<NonZeroUsize>,
    prompt: String,
}

const TOLERANCE: f32 = 1e-4;

fn expected() -> Expected {
    serde_json::from_str(&fs::read_to_string(common::reference("options.json")).unwrap()).unwrap()
}

#[test]
fn embeddings_with_every_option_agree_with_transformers() {
    let Expected { texts, embeddings, .. } = expected();
    let path = common::reference("tiny-bert-classifier");
    for device in common::devices() {
        for Embeddings { options, vectors } in &embeddings {
            let embedding = EmbeddingOptions {
                pooling: Some(options.pooling.parse().unwrap()),
                normalize: Some(options.normalize),
                dimensions: options.dimensions,
            };
            let mut model = TextModel::load(&TextModelOptions {
                task: Some(Task::TextEmbedding),
                embedding,
                prompt: Some(options.prompt.clone()),
                ..common::options_on(&path, device, texts.len())
            })
            .unwrap();
            for (output, expected) in model.answer(&texts).unwrap().into_iter().zip(vectors) {
                let Ok(TextOutput::Embedding { embedding }) = output else { panic!("{output:?}") };
                assert_eq!(embedding.len(), expected.len());
                for (found, expected) in embedding.iter().zip(expected) {
                    let difference = (found - expected).abs();
                    assert!(
                        difference < TOLERANCE,
                        "{difference} by {} on {device}",
                        options.pooling
                    );
                }
            }
        }
    }
}

#[test]
fn scores_with_every_option_agree_with_transformers() {
    let Expected { texts, labels, .. } = expected();
    let path = common::reference("tiny-bert-classifier");
    for device in common::devices() {
        for (scores, expected) in &labels {
            let classification = ClassificationOptions {
                top_k: NonZeroUsize::new(100),
                scores: Some(scores.parse().unwrap()),
            };
            let options = common::options_on(&path, device, texts.len());
            let mut model =
                TextModel::load(&TextModelOptions { classification, ..options }).unwrap();
            for (output, expected) in model.answer(&texts).unwrap().into_iter().zip(expected) {
                let Ok(TextOutput::Labels(found)) = output else { panic!("{output:?}") };
                assert!(found.is_sorted_by(|left, right| left.score >= right.score), "{found:?}");
                assert_eq!(found.len(), expected.len());
                for label in found {
                    let difference = (label.score - expected[&label.label]).abs();
                    assert!(difference < TOLERANCE, "{difference} by {scores} on {device}");
                }
            }
        }
    }
}

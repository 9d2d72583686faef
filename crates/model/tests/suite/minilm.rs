//! Compares the vectors of the model all-MiniLM-L6-v2 with those that sentence-transformers
//! computes. `scripts/fetch-minilm.sh` fetches the model; without it, the tests are skipped.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use forebay_model::{DeviceChoice, Precision, TextModel, TextModelOptions, TextOutput};
use serde::Deserialize;

use crate::common;

#[derive(Deserialize)]
struct Reference {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    sentence: String,
    input_ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn minilm() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let path = cache.join("forebay/models/all-MiniLM-L6-v2");
    path.join("model.safetensors").exists().then_some(path)
}

/// The limits within which two vectors agree: the smallest cosine, and the largest difference of
/// one component.
type Tolerance = (f32, f32);

fn agrees_with_sentence_transformers(
    device: DeviceChoice,
    precision: Precision,
    (least, most): Tolerance,
) {
    let Some(path) = minilm() else {
        return common::skip("all-MiniLM-L6-v2, run scripts/fetch-minilm.sh");
    };
    let reference = fs::read_to_string(common::reference("minilm.json")).unwrap();
    let Reference { items } = serde_json::from_str(&reference).unwrap();
    let options = TextModelOptions {
        truncate: true,
        precision,
        max_tokens: NonZeroUsize::new(256),
        ..common::options_on(&path, device, 4)
    };
    let mut model = TextModel::load(&options).unwrap();
    let texts: Vec<_> = items.iter().map(|item| item.sentence.clone()).collect();
    let outputs = model.answer(&texts).unwrap();
    for (item, output) in items.iter().zip(outputs) {
        assert_eq!(
            model.tokenize(&item.sentence).unwrap().ids(),
            item.input_ids,
            "{}",
            item.sentence
        );
        let Ok(TextOutput::Embedding { embedding }) = output else { panic!("{output:?}") };
        // Both vectors have length 1, so their dot product is the cosine.
        let cosine: f32 = embedding.iter().zip(&item.embedding).map(|(a, b)| a * b).sum();
        assert!(cosine >= least, "{}: {cosine} on {device}", item.sentence);
        let differences = embedding.iter().zip(&item.embedding).map(|(a, b)| (a - b).abs());
        let off = differences.fold(0.0, f32::max);
        assert!(off <= most, "{}: off by {off} on {device}", item.sentence);
        let length: f32 = embedding.iter().map(|a| a * a).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

const EXACT: Tolerance = (0.99999, 1e-4);

#[test]
fn embeddings_agree_on_the_cpu() {
    agrees_with_sentence_transformers(DeviceChoice::Cpu, Precision::F32, EXACT);
}

#[test]
fn embeddings_in_half_precision_agree_on_the_cpu() {
    agrees_with_sentence_transformers(DeviceChoice::Cpu, Precision::Bf16, (0.999, 1e-2));
}

#[test]
fn embeddings_agree_on_a_software_gpu() {
    if common::devices().contains(&DeviceChoice::Software) {
        agrees_with_sentence_transformers(DeviceChoice::Software, Precision::F32, EXACT);
    }
}

#[test]
fn embeddings_in_half_precision_agree_on_a_software_gpu() {
    if common::devices().contains(&DeviceChoice::Software) {
        agrees_with_sentence_transformers(DeviceChoice::Software, Precision::F16, (0.999, 1e-2));
    }
}

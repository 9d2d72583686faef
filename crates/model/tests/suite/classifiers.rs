//! Compares the results of a tiny random classifier of every architecture with those that the
//! library transformers computes.

use std::fs;

use forebay_model::{Label, TextModel, TextModelOptions, TextOutput};
use serde::Deserialize;

use crate::common;

#[derive(Deserialize)]
struct Expected {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    text: String,
    input_ids: Vec<u32>,
    probabilities: Vec<f32>,
    label: String,
}

fn agrees_with_transformers(architecture: &str) {
    let directory = common::reference(&format!("tiny-{architecture}-classifier"));
    let expected = fs::read_to_string(directory.join("expected.json")).unwrap();
    let Expected { items } = serde_json::from_str(&expected).unwrap();
    let texts: Vec<_> = items.iter().map(|item| item.text.clone()).collect();
    for device in common::devices() {
        let mut model = TextModel::load(&TextModelOptions {
            truncate: true,
            ..common::options_on(&directory, device, items.len())
        })
        .unwrap();
        let outputs = model.answer(&texts).unwrap();
        assert_eq!(outputs.len(), items.len());
        for (item, output) in items.iter().zip(outputs) {
            assert_eq!(model.tokenize(&item.text).unwrap().ids(), item.input_ids, "{}", item.text);
            let Ok(TextOutput::Label(Label { label, score })) = output else {
                panic!("{output:?}")
            };
            assert_eq!(label, item.label, "{} on {device}", item.text);
            let best = item.probabilities.iter().copied().fold(0.0, f32::max);
            assert!((score - best).abs() < 1e-4, "{}: {score}, not {best}, on {device}", item.text);
        }
    }
}

#[test]
fn bert_agrees_with_transformers() {
    agrees_with_transformers("bert");
}

#[test]
fn electra_agrees_with_transformers() {
    agrees_with_transformers("electra");
}

#[test]
fn distilbert_agrees_with_transformers() {
    agrees_with_transformers("distilbert");
}

#[test]
fn roberta_agrees_with_transformers() {
    agrees_with_transformers("roberta");
}

#[test]
fn xlm_roberta_agrees_with_transformers_b4() {
    agrees_with_transformers("xlm-roberta");
}

#[test]
fn camembert_agrees_with_transformers_b4() {
    agrees_with_transformers("camembert");
}

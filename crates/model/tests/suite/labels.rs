//! The labels of a classifier: their names in `config.json`, and their number in the weights.

use std::num::NonZeroUsize;

use forebay_model::{
    ClassificationOptions, DeviceChoice, Label, TextModel, TextModelOptions, TextOutput,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{edit_tensors, error_message, options, warnings, with};

/// Returns the names of the labels in an answer, sorted.
fn names(directory: &TempDir) -> Vec<String> {
    let classification = ClassificationOptions { top_k: NonZeroUsize::new(9), scores: None };
    let options = TextModelOptions { classification, ..options(directory) };
    let output = TextModel::load(&options).unwrap().answer(&["boring"]).unwrap().remove(0).unwrap();
    let TextOutput::Labels(labels) = output else { panic!("{output:?}") };
    let mut names: Vec<_> = labels.into_iter().map(|label| label.label).collect();
    names.sort();
    names
}

fn labelled(labels: Value) -> TempDir {
    with("config.json", |config| config["id2label"] = labels)
}

#[test]
fn labels_without_names_are_numbered_with_a_warning_b2() {
    for none in [json!(null), json!({}), json!([])] {
        let directory = labelled(none);
        assert_eq!(names(&directory), ["LABEL_0", "LABEL_1"]);
        assert_eq!(
            warnings(&options(&directory)),
            [
                "config.json has no `id2label`, so the labels are called LABEL_0 to LABEL_1, as in transformers"
            ]
        );
    }
    let missing = with("config.json", |config| {
        config.as_object_mut().unwrap().retain(|key, _| key != "id2label" && key != "label2id");
        config["num_labels"] = json!(2);
    });
    assert_eq!(names(&missing), ["LABEL_0", "LABEL_1"]);
}

#[test]
fn labels_may_be_a_list_or_numbers_b2() {
    assert_eq!(names(&labelled(json!(["bad", "good"]))), ["bad", "good"]);
    assert_eq!(names(&labelled(json!({"0": 1, "1": 5}))), ["1", "5"]);
    assert_eq!(names(&labelled(json!([-1, 0.5]))), ["-1", "0.5"]);
    assert_eq!(names(&labelled(json!({"0": false, "1": true}))), ["false", "true"]);
}

#[test]
fn the_error_for_a_wrong_number_of_labels_has_both_numbers_b2() {
    let wrong = "labels, but the classifier in model.safetensors has 2 outputs; correct `id2label`";
    for (labels, count) in [(json!(["a", "b", "c"]), 3), (json!({"0": "a"}), 1)] {
        let message = error_message(&labelled(labels));
        assert_eq!(message, format!("config.json names {count} {wrong}"));
    }
    let directory = with("config.json", |config| {
        config["id2label"] = json!(null);
        config["num_labels"] = json!(1_000_000_000_000_u64);
    });
    assert_eq!(error_message(&directory), format!("config.json names 1000000000000 {wrong}"));
}

#[test]
fn labels_that_are_not_names_are_refused_b2() {
    for labels in [
        json!({"0": "negative", "2": "positive"}),
        json!({"0": "negative", "1": null}),
        json!([["negative"], "positive"]),
        json!("negative"),
        json!(2),
    ] {
        let message = error_message(&labelled(labels));
        assert!(message.contains("config.json has no valid `id2label`"), "{message}");
    }
}

#[test]
fn a_single_output_is_a_score_from_0_to_1_b2() {
    let directory = labelled(json!(null));
    edit_tensors(&directory, |tensors| {
        for (_, shape, numbers) in
            tensors.iter_mut().filter(|(name, ..)| name.starts_with("classifier"))
        {
            shape[0] = 1;
            numbers.truncate(shape.iter().product());
        }
    });
    let mut model = TextModel::load(&options(&directory)).unwrap();
    let output = model.answer(&["boring"]).unwrap().remove(0).unwrap();
    let TextOutput::Label(Label { label, score }) = output else { panic!("{output:?}") };
    assert_eq!(label, "LABEL_0");
    assert!(score > 0.0 && score < 1.0, "{score}");
    assert_eq!(options(&directory).device, DeviceChoice::Cpu);
}

#[test]
fn an_activation_for_cross_encoders_is_named_in_a_warning_a7() {
    let identity = json!("torch.nn.modules.linear.Identity");
    for (key, value) in [
        ("sbert_ce_default_activation_function", identity.clone()),
        ("sentence_transformers", json!({"activation_fn": identity, "version": "5.0"})),
    ] {
        let directory = with("config.json", |config| config[key] = value);
        let [warning] = warnings(&options(&directory)).try_into().unwrap();
        assert!(
            warning.contains("Identity") && warning.contains("the scores are `softmax`"),
            "{warning}"
        );
        let scores = Some("none".parse().unwrap());
        let classification = ClassificationOptions { top_k: None, scores };
        let chosen = TextModelOptions { classification, ..options(&directory) };
        assert_eq!(warnings(&chosen), [""; 0]);
    }
}

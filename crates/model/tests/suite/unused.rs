//! Tensors that a model's answers do not depend on are named in a warning.

use forebay_model::{Task, TextModelOptions};
use serde_json::json;

use crate::common::{copy, edit_tensors, options, warnings, with};

fn added(names: &[&str]) -> Vec<String> {
    let directory = copy();
    edit_tensors(&directory, |tensors| {
        tensors.extend(names.iter().map(|name| ((*name).to_owned(), vec![2], vec![0.5, 0.25])));
    });
    warnings(&options(&directory))
}

#[test]
fn weights_that_are_all_used_give_no_warning_a7() {
    assert_eq!(warnings(&options(&copy())), [""; 0]);
}

#[test]
fn fewer_layers_than_the_weights_have_are_a_warning_a7() {
    let directory = with("config.json", |config| config["num_hidden_layers"] = json!(1));
    assert_eq!(
        warnings(&options(&directory)),
        [
            "model.safetensors has more than the 1 layers that config.json asks for (`num_hidden_layers` or \
          `n_layers`); the others are not used, so the answers may not be the model's"
        ]
    );
}

#[test]
fn unused_tensors_are_named_in_a_warning_a7() {
    assert_eq!(
        added(&["bert.embeddings.extra.weight", "projection.weight"]),
        [
            "model.safetensors has tensors that are not used, so the answers may not be the model's: \
          `bert.embeddings.extra.weight`, `projection.weight`"
        ]
    );
    let many: Vec<_> = (0..9).map(|number| format!("adapter.{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let [warning] = added(&many).try_into().unwrap();
    assert!(
        warning.ends_with("`adapter.0`, `adapter.1`, `adapter.2`, `adapter.3` and 5 more"),
        "{warning}"
    );
}

#[test]
fn the_head_of_another_task_is_named_as_such_a7() {
    assert_eq!(
        added(&["cls.predictions.bias", "cls.seq_relationship.bias", "lm_head.bias"]),
        ["model.safetensors has the head of another task, which is not used: `cls`, `lm_head`"]
    );
    let task = Some(Task::TextEmbedding);
    let directory = copy();
    let embedder = TextModelOptions { task, ..options(&directory) };
    assert_eq!(
        warnings(&embedder),
        ["model.safetensors has the head of another task, which is not used: `classifier`"]
    );
}

#[test]
fn tensors_without_an_effect_are_left_out_a7() {
    let harmless =
        ["bert.embeddings.position_ids", "embeddings.token_type_ids", "roberta.pooler.dense.bias"];
    assert_eq!(added(&harmless), [""; 0]);
}

#[test]
fn numbers_that_are_not_finite_are_a_warning_a4() {
    let directory = copy();
    edit_tensors(&directory, |tensors| {
        let bias = tensors.iter_mut().find(|(name, ..)| name == "classifier.bias").unwrap();
        bias.2[0] = f32::NAN;
    });
    assert_eq!(
        warnings(&options(&directory)),
        ["model.safetensors has infinities or NaN in classifier.bias"]
    );
}

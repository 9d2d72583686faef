//! Tests that a text's result does not depend on its batch, on the threads or on the devices.

use std::num::NonZeroUsize;

use forebay_model::{
    DeviceChoice, Model, Task, TextHandle, TextModel, TextModelOptions, TextOutput,
};
use forebay_stream::{Batch, MapBatch as _};
use futures::future::join_all;

use crate::common;

fn embedder(device: DeviceChoice) -> TextModel {
    let path = common::reference("tiny-bert-classifier");
    let task = Some(Task::TextEmbedding);
    TextModel::load(&TextModelOptions { task, ..common::options_on(&path, device, 4) }).unwrap()
}

/// Returns 40 texts of different lengths, in an order that is not by length.
fn texts() -> Vec<String> {
    (0..40).map(|n| "the movie was not so great ".repeat((n * 7) % 8) + "boring").collect()
}

fn vector(output: &TextOutput) -> &[f32] {
    let TextOutput::Embedding { embedding } = output else { panic!("{output:?}") };
    embedding
}

#[test]
fn a_text_gets_the_same_vector_alone_and_in_a_batch() {
    for device in common::devices() {
        let mut model = embedder(device);
        let together = model.answer(&texts()).unwrap();
        for (text, batched) in texts().into_iter().zip(together) {
            let alone = model.answer(std::slice::from_ref(&text)).unwrap().remove(0).unwrap();
            let batched = batched.unwrap();
            for (a, b) in vector(&alone).iter().zip(vector(&batched)) {
                assert!((a - b).abs() < 1e-5, "{text}: {a} and {b} on {device}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_vectors() {
    let vectors = |threads: usize, batch: &[String]| {
        let path = common::reference("tiny-bert-classifier");
        let task = Some(Task::TextEmbedding);
        let threads = NonZeroUsize::new(threads);
        let options = common::options_on(&path, DeviceChoice::Cpu, 4);
        let mut model =
            TextModel::load(&TextModelOptions { task, threads, truncate: true, ..options })
                .unwrap();
        let outputs = model.answer(batch).unwrap();
        outputs
            .iter()
            .flat_map(|output| vector(output.as_ref().unwrap()).to_vec())
            .collect::<Vec<_>>()
    };
    // Many texts are distributed over the threads, but a single text is computed by all threads
    // together. Both ways are tested.
    let long = "not so great ".repeat(30);
    for batch in [texts(), vec!["boring".to_owned()], vec![long]] {
        let alone = vectors(1, &batch);
        for threads in [2, 3, 16] {
            let found = vectors(threads, &batch);
            assert_eq!(found.len(), alone.len());
            let differences = found.iter().zip(&alone).map(|(a, b)| (a - b).abs());
            assert!(differences.fold(0.0, f32::max) < 1e-5, "{threads} threads");
        }
    }
}

#[test]
fn an_empty_batch_has_no_results() {
    assert_eq!(embedder(DeviceChoice::Cpu).answer(&[""; 0]), Ok(vec![]));
}

#[test]
fn a_text_that_is_too_long_fails_alone() {
    let path = common::reference("tiny-bert-classifier");
    let options = TextModelOptions {
        max_tokens: NonZeroUsize::new(5),
        ..common::options_on(&path, DeviceChoice::Cpu, 4)
    };
    let texts = ["boring".to_owned(), "boring ".repeat(4), "great".to_owned()];
    let mut model = TextModel::load(&options).unwrap();
    let results = model.answer(&texts).unwrap();
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let failure = results[1].as_ref().unwrap_err();
    assert_eq!(failure.code(), "text_too_long");
    assert_eq!(failure.message(), "the text has 6 tokens, the model takes 5");

    let mut cut = TextModel::load(&TextModelOptions { truncate: true, ..options }).unwrap();
    assert_eq!(cut.tokenize(&texts[1]).unwrap(), cut.tokenize("boring boring boring").unwrap());
    assert!(cut.answer(&texts).unwrap()[1].is_ok());
}

#[test]
fn a_gpu_reports_each_step_of_its_warm_up() {
    for device in common::devices() {
        let mut steps = Vec::new();
        embedder(device).warm_up(&mut |step| steps.push(step)).unwrap();
        let shapes: Vec<_> = steps.iter().map(|step| step.shape.as_str()).collect();
        match device {
            DeviceChoice::Cpu => assert!(shapes.is_empty(), "{shapes:?}"),
            _ => assert_eq!(shapes, ["4 texts of 64 tokens"]),
        }
        assert!(steps.iter().enumerate().all(|(n, step)| (step.done, step.total) == (n + 1, 1)));
    }
}

#[tokio::test]
async fn batches_that_overlap_on_a_device_get_their_own_results() {
    let path = common::reference("tiny-bert-classifier");
    let task = Some(Task::TextEmbedding);
    for device in common::devices() {
        let options = TextModelOptions { task, ..common::options_on(&path, device, 4) };
        let model = TextHandle::spawn("tiny", &options, |_| {}).await.unwrap();
        let calls = texts().into_iter().map(|text| {
            let model = model.clone();
            async move { model.call(Batch::from(vec![text.clone(), text + " but great"])).await }
        });
        let together: Vec<_> = join_all(calls).await;
        let mut cpu = embedder(DeviceChoice::Cpu);
        for (text, found) in texts().into_iter().zip(together) {
            let expected = cpu.answer(&[text.clone(), text + " but great"]).unwrap();
            for (found, expected) in found.unwrap().into_iter().zip(expected) {
                let found = found.unwrap();
                let expected = expected.unwrap();
                for (a, b) in vector(&found).iter().zip(vector(&expected)) {
                    assert!((a - b).abs() < 1e-4, "{a} and {b} on {device}");
                }
            }
        }
    }
}

#[tokio::test]
async fn replicas_on_several_devices_give_the_same_answers() {
    let path = common::reference("tiny-bert-classifier");
    let task = Some(Task::TextEmbedding);
    let options = TextModelOptions { task, ..common::options_on(&path, DeviceChoice::Cpu, 4) };
    let devices = common::devices();
    let twice = NonZeroUsize::new(2).unwrap();
    let model = TextHandle::spawn_on("tiny", &options, &devices, twice, |_| {}).await.unwrap();
    assert!(model.describe().contains(", 2 times"), "{}", model.describe());
    let expected = embedder(DeviceChoice::Cpu).answer(&texts()).unwrap();
    // Each text is a batch, and all batches are concurrent, so that each replica gets some.
    let calls = texts().into_iter().map(|text| model.call(Batch::from(vec![text])));
    for (found, expected) in join_all(calls).await.into_iter().zip(expected) {
        let found = found.unwrap().remove(0).unwrap();
        let expected = expected.unwrap();
        for (a, b) in vector(&found).iter().zip(vector(&expected)) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
    }
}

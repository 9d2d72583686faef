//! Trains the sentiment model that ships with Forebay, in `models/sentiment`.
//!
//! Several teachers start from all-MiniLM-L6-v2 with a trimmed vocabulary and are fine-tuned on
//! rated movie-review snippets, each with another seed. Students start from the same weights and
//! learn from the labels and the mean of the teachers. The validation part chooses epochs and
//! seeds; the test part is used once, for the network that is written.
//!
//! ```sh
//! cargo run --release --features forebay-model/train --example train_sentiment -- \
//!     "$(scripts/fetch-minilm.sh)" "$(scripts/fetch-reviews.sh)" models/sentiment
//! ```
//!
//! An optional fourth argument is a directory for the best teacher, for comparison.

mod baseline;
mod export;
mod network;
mod random;
mod reviews;
mod training;
mod vocabulary;

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::Device;
use forebay_model::burn;

use network::Network;
use reviews::{Reviews, Split};
use training::{Schedule, Trained};
use vocabulary::{Example, Vocabulary};

/// Seed for splitting the reviews.
const SPLIT: u64 = 20_240_229;
const TEACHERS: [u64; 3] = [SPLIT, 1, 2];
const STUDENTS: [u64; 2] = [3, 4];
const SCHEDULE: Schedule = Schedule { epochs: 3, peak: 5e-5 };
/// Share of a student's target that comes from the label; the rest comes from the teachers.
const LABEL: f32 = 0.5;
/// Divides the teachers' logits, so that their targets are less certain.
const TEMPERATURE: f32 = 2.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = |what| {
        arguments.next().with_context(|| {
            format!("{what} missing: train_sentiment MINILM REVIEWS OUTPUT [TEACHER]")
        })
    };
    let minilm = next("the directory of all-MiniLM-L6-v2 is")?;
    let reviews = Reviews::read(&next("the reviews' file is")?)?;
    let output = next("the output directory is")?;
    let teacher_output = arguments.next();

    let Split { train, validation, test } = reviews.split(SPLIT);
    println!(
        "snippets: {} train, {} validation, {} test",
        train.len(),
        validation.len(),
        test.len()
    );
    println!("majority class on test: {}", percent(baseline::majority(&train, &test)));
    let [on_validation, on_test] = baseline::tf_idf(&train, &validation, &test, SPLIT);
    println!(
        "TF-IDF and logistic regression: {} on validation, {} on test",
        percent(on_validation),
        percent(on_test)
    );

    let vocabulary = Vocabulary::trim(&minilm.join("tokenizer.json"), &train)?;
    println!("vocabulary: {} tokens", vocabulary.len());
    let mut train = vocabulary.encode(&train)?;
    let [validation, test] = [validation, test].map(|part| vocabulary.encode(&part));
    let validation = validation?;
    let test = test?;

    println!("teachers");
    let device = Device::flex();
    let fine_tune = |seed, examples: &[Example]| {
        // The head starts from random weights.
        device.seed(seed);
        let network = Network::from_minilm(&minilm, &vocabulary, &device)?;
        anyhow::Ok(training::train(&network, examples, &validation, SCHEDULE, seed))
    };
    let mut teachers = Vec::new();
    let mut margins = vec![0.0; train.len()];
    for seed in TEACHERS {
        let teacher = fine_tune(seed, &train)?;
        for (margin, of_teacher) in
            margins.iter_mut().zip(training::margins(&teacher.network, &train))
        {
            *margin += of_teacher;
        }
        teachers.push(teacher);
    }
    for (example, margin) in train.iter_mut().zip(margins) {
        let logit = margin / f32::from(u8::try_from(TEACHERS.len())?) / TEMPERATURE;
        example.target = LABEL * example.target + (1.0 - LABEL) / (1.0 + (-logit).exp());
    }
    let teacher = best(teachers);

    println!("students");
    let students = STUDENTS.map(|seed| fine_tune(seed, &train));
    let student = best(students.into_iter().collect::<Result<_>>()?);
    println!(
        "validation: teacher {}, student {}",
        percent(teacher.accuracy),
        percent(student.accuracy)
    );
    println!("test: student {}", percent(training::accuracy(&student.network, &test)));
    export::write(&output, &student.network, &vocabulary)?;
    if let Some(teacher_output) = teacher_output {
        export::write(&teacher_output, &teacher.network, &vocabulary)?;
    }
    Ok(())
}

/// Returns the network with the highest accuracy on the validation part, the first of equals.
fn best(trained: Vec<Trained>) -> Trained {
    let better = |best: Trained, other: Trained| {
        if other.accuracy > best.accuracy { other } else { best }
    };
    trained.into_iter().reduce(better).expect("there is at least one seed")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

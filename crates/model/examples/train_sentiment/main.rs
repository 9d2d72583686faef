//! Trains the sentiment model that ships with Forebay, in `models/sentiment`.
//!
//! The training data are rated snippets of movie reviews. First, several networks, the teachers,
//! are fine-tuned on them, each with another seed. They start from all-MiniLM-L6-v2. Then other
//! networks, the students, start from the better teacher, with fewer layers and tokens, and are
//! fine-tuned on a mix of the labels and the mean prediction of the teachers. Epochs and seeds are
//! chosen by the accuracy on the validation part. The test part is used only once, for the student
//! that is written.
//!
//! ```sh
//! cargo run --release --features forebay-model/train --example train_sentiment -- \
//!     "$(scripts/fetch-minilm.sh)" "$(scripts/fetch-reviews.sh)" models/sentiment
//! ```
//!
//! If there is a fourth argument, the best teacher is written to that directory, for comparison.

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
use vocabulary::Vocabulary;

/// Seed for splitting the reviews.
const SPLIT: u64 = 20_240_229;
const TEACHERS: [u64; 2] = [SPLIT, 1];
const STUDENTS: [u64; 2] = [2, 3];
const TEACHER: Schedule = Schedule { epochs: 3, peak: 5e-5 };
const STUDENT: Schedule = Schedule { epochs: 4, peak: 1e-4 };
/// Layers and tokens of a student.
const LAYERS: usize = 4;
const TOKENS: usize = 20_000;
/// Tokens of the network that is written: as many as fit into 30 MB. The others are the rarest.
const WRITTEN_TOKENS: usize = 19_500;
/// Share of a student's target that is the label; the rest is the prediction of the teachers.
const LABEL: f32 = 0.5;
/// The teachers' logits are divided by this number, which makes their predictions less certain.
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

    println!("teachers with all layers and tokens");
    let file = minilm.join("tokenizer.json");
    let vocabulary = Vocabulary::trim(&file, &train, usize::MAX)?;
    let examples = vocabulary.encode(&train)?;
    let checks = vocabulary.encode(&validation)?;
    let device = Device::flex();
    let mut teachers = Vec::new();
    let mut margins = vec![0.0; train.len()];
    for seed in TEACHERS {
        // For the weights of the head, which are random at first.
        device.seed(seed);
        let network = Network::from_minilm(&minilm, &device)?;
        let teacher = training::train(&network, &examples, &checks, TEACHER, seed);
        let of_teacher = training::margins(&teacher.network, &examples);
        margins.iter_mut().zip(of_teacher).for_each(|(sum, margin)| *sum += margin);
        teachers.push(teacher);
    }
    let teacher = best(teachers);

    println!("students with {LAYERS} layers and {TOKENS} tokens");
    let reduced = Vocabulary::trim(&file, &train, TOKENS)?;
    let mut examples = reduced.encode(&train)?;
    for (example, margin) in examples.iter_mut().zip(margins) {
        let logit = margin / f32::from(u8::try_from(TEACHERS.len())?) / TEMPERATURE;
        example.target = LABEL * example.target + (1.0 - LABEL) / (1.0 + (-logit).exp());
    }
    let checks = reduced.encode(&validation)?;
    let start = teacher.network.reduced(LAYERS, &vocabulary, &reduced)?;
    let student = STUDENTS.map(|seed| training::train(&start, &examples, &checks, STUDENT, seed));
    let student = best(Vec::from(student));
    let written = Vocabulary::trim(&file, &train, WRITTEN_TOKENS)?;
    let network = student.network.reduced(LAYERS, &reduced, &written)?;
    println!(
        "validation: teacher {}, student {}",
        percent(teacher.accuracy),
        percent(student.accuracy)
    );
    let part = written.encode(&validation)?;
    println!("validation: student as written {}", percent(training::accuracy(&network, &part)));
    let part = written.encode(&test)?;
    println!("test: student as written {}", percent(training::accuracy(&network, &part)));
    export::write(&output, &network, &written)?;
    if let Some(teacher_output) = teacher_output {
        export::write(&teacher_output, &teacher.network, &vocabulary)?;
    }
    Ok(())
}

/// Returns the network with the highest accuracy on the validation part. If several are equal,
/// returns the first one.
fn best(trained: Vec<Trained>) -> Trained {
    let better = |best: Trained, other: Trained| {
        if other.accuracy > best.accuracy { other } else { best }
    };
    trained.into_iter().reduce(better).expect("there is at least one seed")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

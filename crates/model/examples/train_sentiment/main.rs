//! Trains the sentiment model that ships with Forebay, in `models/sentiment`.
//!
//! It starts from the embeddings and the first two layers of all-MiniLM-L6-v2, its vocabulary trimmed, and fine-tunes
//! them on rated movie-review snippets. Everything random comes from one seed.
//!
//! ```sh
//! cargo run --release -p forebay-model --features train --example train_sentiment -- \
//!     "$(scripts/fetch-minilm.sh)" "$(scripts/fetch-reviews.sh)" models/sentiment
//! ```

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
use vocabulary::Vocabulary;

/// What everything random starts from.
const SEED: u64 = 20_240_229;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = |what| {
        arguments
            .next()
            .with_context(|| format!("{what} missing: train_sentiment MINILM REVIEWS OUTPUT"))
    };
    let minilm = next("the directory of all-MiniLM-L6-v2 is")?;
    let reviews = Reviews::read(&next("the reviews' file is")?)?;
    let output = next("the output directory is")?;

    let Split { train, validation, test } = reviews.split(SEED);
    println!(
        "snippets: {} train, {} validation, {} test",
        train.len(),
        validation.len(),
        test.len()
    );
    println!("majority class on test: {:.1}%", 100.0 * baseline::majority(&train, &test));
    let bag = baseline::bag_of_words(&train, &validation, &test, SEED);
    println!("bag-of-words logistic regression on test: {:.1}%", 100.0 * bag);

    let device = Device::flex();
    device.seed(SEED);
    let vocabulary = Vocabulary::trim(&minilm.join("tokenizer.json"), &train)?;
    println!("vocabulary: {} tokens", vocabulary.len());
    let network = Network::from_minilm(&minilm, &vocabulary, &device)?;
    let [train, validation, test] = [train, validation, test].map(|part| vocabulary.encode(&part));
    let network = training::train(network, &train?, &validation?, SEED);
    let accuracy = training::evaluate(&network, &test?).accuracy;
    println!("held-out accuracy on test: {:.1}%", 100.0 * accuracy);
    export::write(&output, &network, &vocabulary)
}

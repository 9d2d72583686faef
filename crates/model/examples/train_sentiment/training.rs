//! Fine-tuning: `AdamW`, a warm-up, a linear decay, and the best epoch by the validation part.

use std::time::SystemTime;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use forebay_model::burn;
use forebay_model::encoder::Padded;

use crate::baseline::share;
use crate::network::Network;
use crate::random::Random;
use crate::vocabulary::Example;

const EPOCHS: usize = 6;
/// Epochs without a better validation loss after which training ends.
const PATIENCE: usize = 2;
const BATCH: usize = 32;
const PEAK_RATE: f64 = 2e-4;
/// Share of the steps over which the learning rate rises to its peak.
const WARM_UP: f64 = 0.1;
/// Tokens replaced by the unknown one while training, in percent, so that no single word decides.
const WORD_DROPOUT: u64 = 8;
/// Ids of `[PAD]` and `[UNK]` in the trimmed vocabulary.
const PADDING: u32 = 0;
const UNKNOWN: u32 = 1;

/// How well a network does on one part of the reviews.
pub(crate) struct Score {
    pub(crate) accuracy: f64,
    pub(crate) loss: f64,
}

/// Trains on `train` and returns the network of the epoch with the lowest loss on `validation`.
pub(crate) fn train(
    network: Network,
    train: &[Example],
    validation: &[Example],
    seed: u64,
) -> Network {
    let mut random = Random::new(seed);
    let mut best = (f64::INFINITY, network.clone());
    let mut stale = 0;
    let mut network = network.train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let steps = EPOCHS * train.len().div_ceil(BATCH);
    let mut step = 0;
    for epoch in 1..=EPOCHS {
        let started = SystemTime::now();
        let mut total = 0.0;
        let batches = shuffled_batches(train, &mut random);
        for batch in &batches {
            let tokens: Vec<_> = batch.iter().map(|e| drop_words(&e.tokens, &mut random)).collect();
            let loss = loss(&network, &tokens, batch);
            total += f64::from(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(rate(step, steps), network, gradients);
            step += 1;
        }
        let now = network.valid();
        let score = evaluate(&now, validation);
        let seconds = started.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        println!(
            "epoch {epoch}: train loss {:.4}, validation loss {:.4}, accuracy {:.1}%, {seconds} s",
            mean(total, batches.len()),
            score.loss,
            100.0 * score.accuracy,
        );
        stale += 1;
        if score.loss < best.0 {
            best = (score.loss, now);
            stale = 0;
        }
        if stale == PATIENCE {
            break;
        }
    }
    best.1
}

/// Accuracy and mean loss, nothing dropped.
pub(crate) fn evaluate(network: &Network, examples: &[Example]) -> Score {
    let mut hits = Vec::with_capacity(examples.len());
    let mut total = 0.0;
    let mut sorted: Vec<_> = examples.iter().collect();
    sorted.sort_by_key(|example| example.tokens.len());
    for batch in sorted.chunks(BATCH) {
        let tokens: Vec<_> = batch.iter().map(|example| example.tokens.clone()).collect();
        let logits = network.forward(&pad(&tokens)).try_into_vec_as::<f32>();
        let logits = logits.expect("the CPU computes");
        for (row, example) in logits.chunks(2).zip(batch) {
            let margin = f64::from(row[1] - row[0]);
            hits.push((margin > 0.0) == example.positive);
            let signed = if example.positive { margin } else { -margin };
            total += (-signed).exp().ln_1p();
        }
    }
    Score { loss: mean(total, hits.len()), accuracy: share(hits.into_iter()) }
}

fn loss(network: &Network, tokens: &[Vec<u32>], batch: &[&Example]) -> Tensor<1> {
    let logits = network.forward(&pad(tokens));
    let device: Device = logits.device();
    let targets: Vec<i32> = batch.iter().map(|example| i32::from(example.positive)).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device);
    CrossEntropyLossConfig::new().init(&device).forward(logits, targets)
}

fn pad(tokens: &[Vec<u32>]) -> Padded {
    let longest = tokens.iter().map(Vec::len).max().unwrap_or(1);
    let texts: Vec<_> = tokens.iter().map(Vec::as_slice).collect();
    Padded::new(&texts, [tokens.len(), longest], PADDING, false)
}

/// Batches of like length in random order.
fn shuffled_batches<'a>(train: &'a [Example], random: &mut Random) -> Vec<Vec<&'a Example>> {
    let mut order: Vec<_> = train.iter().collect();
    random.shuffle(&mut order);
    for pool in order.chunks_mut(BATCH * 32) {
        pool.sort_by_key(|example| example.tokens.len());
    }
    let mut batches: Vec<_> = order.chunks(BATCH).map(<[_]>::to_vec).collect();
    random.shuffle(&mut batches);
    batches
}

/// Replaces some tokens between the special ones at both ends.
fn drop_words(tokens: &[u32], random: &mut Random) -> Vec<u32> {
    let last = tokens.len() - 1;
    let drop = |(place, &token)| {
        let inner = place > 0 && place < last;
        if inner && random.chance(WORD_DROPOUT) { UNKNOWN } else { token }
    };
    tokens.iter().enumerate().map(drop).collect()
}

/// The learning rate of a step: up in a line, then down in a line.
fn rate(step: usize, steps: usize) -> f64 {
    let done = mean_of(step, steps);
    PEAK_RATE * if done < WARM_UP { done / WARM_UP } else { (1.0 - done) / (1.0 - WARM_UP) }
}

fn mean_of(part: usize, whole: usize) -> f64 {
    mean(f64::from(u32::try_from(part).unwrap_or(u32::MAX)), whole)
}

#[expect(clippy::cast_precision_loss, reason = "thousands of examples")]
fn mean(total: f64, count: usize) -> f64 {
    total / count as f64
}

//! Fine-tuning with `AdamW`. The learning rate rises during a warm-up and then falls linearly. The
//! result is the network of the epoch with the highest accuracy on the validation part.

use std::time::SystemTime;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use forebay_model::burn;
use forebay_model::encoder::Padded;

use crate::baseline::share;
use crate::network::{CLASSES, Network};
use crate::random::Random;
use crate::vocabulary::Example;

const BATCH: usize = 32;
/// Share of the steps over which the learning rate rises to its peak.
const WARM_UP: f64 = 0.1;
/// Id of `[PAD]` in the trimmed vocabulary.
const PADDING: u32 = 0;

/// The number of epochs and the learning rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) epochs: usize,
    /// The highest learning rate, at the end of the warm-up.
    pub(crate) peak: f64,
}

/// A trained network and its accuracy on the validation part.
pub(crate) struct Trained {
    pub(crate) network: Network,
    pub(crate) accuracy: f64,
}

/// Trains on `train` and returns the network of the epoch with the highest accuracy on
/// `validation`. If several epochs are equal, returns that of the first one.
pub(crate) fn train(
    network: &Network,
    train: &[Example],
    validation: &[Example],
    schedule: Schedule,
    seed: u64,
) -> Trained {
    let mut random = Random::new(seed);
    network.encoder.embeddings.device().seed(seed);
    let mut best = Trained { network: network.clone(), accuracy: 0.0 };
    let mut network = network.clone().train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let steps = schedule.epochs * train.len().div_ceil(BATCH);
    let mut step = 0;
    for epoch in 1..=schedule.epochs {
        let started = SystemTime::now();
        let mut total = 0.0;
        let batches = shuffled_batches(train, &mut random);
        for batch in &batches {
            let loss = loss(&network, batch);
            total += f64::from(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(rate(step, steps, schedule.peak), network, gradients);
            step += 1;
        }
        let now = network.valid();
        let accuracy = accuracy(&now, validation);
        println!(
            "  seed {seed}, epoch {epoch}: train loss {:.4}, validation accuracy {:.1}%, {} s",
            mean(total, batches.len()),
            100.0 * accuracy,
            started.elapsed().map_or(0, |elapsed| elapsed.as_secs()),
        );
        if accuracy > best.accuracy {
            best = Trained { network: now, accuracy };
        }
    }
    best
}

/// Returns the share of the examples that the network classifies correctly.
pub(crate) fn accuracy(network: &Network, examples: &[Example]) -> f64 {
    let margins = margins(network, examples);
    let hits: Vec<_> =
        margins.iter().zip(examples).map(|(&m, e)| (m > 0.0) == e.positive).collect();
    share(hits.into_iter())
}

/// Returns the margin of each example: the logit of `positive` minus that of `negative`. The
/// network is expected to be one for inference, which has no dropout.
pub(crate) fn margins(network: &Network, examples: &[Example]) -> Vec<f32> {
    let mut by_length: Vec<_> = (0..examples.len()).collect();
    by_length.sort_by_key(|&example| examples[example].tokens.len());
    let mut margins = vec![0.0; examples.len()];
    for batch in by_length.chunks(BATCH) {
        let members: Vec<_> = batch.iter().map(|&example| &examples[example]).collect();
        let logits = network.forward(&pad(&members)).try_into_vec_as::<f32>();
        let logits = logits.expect("reading a tensor from the CPU does not fail");
        for (row, &example) in logits.chunks(CLASSES).zip(batch) {
            margins[example] = row[1] - row[0];
        }
    }
    margins
}

/// Returns the mean cross-entropy between the network's predictions and the examples' targets.
fn loss(network: &Network, batch: &[&Example]) -> Tensor<1> {
    let logits = network.forward(&pad(batch));
    let device: Device = logits.device();
    let targets = batch.iter().flat_map(|example| [1.0 - example.target, example.target]);
    let targets = TensorData::new(targets.collect::<Vec<f32>>(), [batch.len(), CLASSES]);
    let targets = Tensor::<2>::from_data(targets, &device);
    (log_softmax(logits, 1) * targets).sum_dim(1).mean().neg()
}

fn pad(batch: &[&Example]) -> Padded {
    let texts: Vec<_> = batch.iter().map(|example| &*example.tokens).collect();
    let longest = texts.iter().map(|tokens| tokens.len()).max().unwrap_or(1);
    Padded::new(&texts, [texts.len(), longest], PADDING, false)
}

/// Returns the examples in batches. The examples of a batch have similar lengths, and the batches
/// are in random order.
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

/// Returns the learning rate of a step, which rises linearly during the warm-up and then falls
/// linearly.
fn rate(step: usize, steps: usize, peak: f64) -> f64 {
    let done = mean(f64::from(u32::try_from(step).unwrap_or(u32::MAX)), steps);
    peak * if done < WARM_UP { done / WARM_UP } else { (1.0 - done) / (1.0 - WARM_UP) }
}

#[expect(clippy::cast_precision_loss, reason = "thousands of examples")]
fn mean(total: f64, count: usize) -> f64 {
    total / count as f64
}

//! Prints how many texts per second a model computes, including the time to tokenise them: for
//! several batch sizes, and for the batches of an adaptive window. The texts are the lines of a
//! file.
//!
//! ```sh
//! cargo run -p forebay-model --example throughput -- models/sentiment cpu f32 texts.txt
//! ```
//!
//! `bench/cpu.sh` runs this example and the same measurement in other runtimes.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forebay_model::{Model, TextHandle, TextModel, TextModelOptions};
use forebay_stream::{AdaptiveWindow, Flow};
use tokio::time::Instant;

/// The batch sizes, in texts. The last one means that all texts are in one batch.
const SIZES: [usize; 4] = [1, 8, 32, usize::MAX];

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: throughput MODEL DEVICE f32|f16|bf16 TEXTS");
    let model = next()?;
    let device = next()?.parse()?;
    let precision = next()?.parse()?;
    let file = next()?;
    let texts = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let texts: Vec<_> = texts.lines().map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "{file} has no line");

    let options =
        TextModelOptions { device, precision, truncate: true, ..TextModelOptions::new(model) };
    let mut model = TextModel::load(&options)?;
    eprintln!("{}", model.describe());
    model.warm_up(&mut |step| eprintln!("warm-up {}/{}: {}", step.done, step.total, step.shape))?;
    for size in SIZES {
        let size = size.min(texts.len());
        model.answer(&texts[..size])?;
        let started = Instant::now();
        for batch in texts.chunks(size) {
            for result in model.answer(batch)? {
                result?;
            }
        }
        let rate = f64::from(u32::try_from(texts.len())?) / started.elapsed().as_secs_f64();
        println!("{size} {rate:.1}");
    }
    drop(model);
    println!("window {:.1}", through_a_window(&options, texts).await?);
    Ok(())
}

/// Returns the texts per second of a flow that tokenises texts in parallel and, whenever the model
/// is free, makes a batch of the texts that are waiting.
async fn through_a_window(options: &TextModelOptions, texts: Vec<String>) -> Result<f64> {
    let model = TextHandle::spawn("throughput", options, |_| {}).await?;
    let count = texts.len();
    let parallelism = std::thread::available_parallelism()?;
    let max_size = NonZeroUsize::new(64).context("64 is not 0")?;
    let limits = AdaptiveWindow { max_size, max_wait: Duration::ZERO, max_cost: 16_384 };
    let tokenizer = model.clone();
    let costs = model.costs();
    let started = Instant::now();
    let answers = Flow::from_iter(texts)
        .map_async(move |text| tokenizer.clone().tokenize(text), parallelism)
        .adaptive_window_by_length(limits, costs, |tokens| tokens.ids().len() as u64, |_| Ok(None))
        .map_batch(model)
        .collect()
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(answers.len() == count, "{} answers to {count} texts", answers.len());
    Ok(f64::from(u32::try_from(count)?) / seconds)
}

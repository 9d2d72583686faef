//! Prints how many short texts a model answers in a second, by batch size.
//!
//! ```sh
//! cargo run --release -p forebay-model --example throughput -- models/sentiment cpu
//! ```

use anyhow::{Context, Result};
use forebay_model::{Model, TextModel, TextModelOptions};
use tokio::time::{Duration, Instant};

/// Texts of 6 to 22 tokens.
const TEXTS: [&str; 8] = [
    "one of the best films of the year",
    "boring",
    "the cast is great but the script is not",
    "a dull plot, and worse acting; i would not watch it again",
    "it starts slowly, finds its feet and ends in a finale that nobody in the audience will forget",
    "where is my order? it should have come on monday",
    "thank you, that was quick",
    "the device restarts every time the queue is full",
];
const MEASURED: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("throughput MODEL [DEVICE]")?;
    let device = arguments.next().unwrap_or_else(|| "auto".to_owned()).parse()?;
    let options = TextModelOptions { device, ..TextModelOptions::new(path) };
    let mut model = TextModel::load(&options)?;
    println!("{}", model.describe());
    model.warm_up(&mut |step| println!("warm-up {}/{}: {}", step.done, step.total, step.shape))?;
    for size in [1, 8, 32] {
        let batch: Vec<_> = (0..size).map(|n| TEXTS[n % TEXTS.len()].to_owned()).collect();
        model.infer(&batch)?;
        let started = Instant::now();
        let mut texts = 0;
        while started.elapsed() < MEASURED {
            model.infer(&batch)?;
            texts += size;
        }
        let rate = f64::from(u32::try_from(texts)?) / started.elapsed().as_secs_f64();
        println!("batches of {size}: {rate:.0} texts/s");
    }
    Ok(())
}

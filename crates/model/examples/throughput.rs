//! Prints how many texts a model answers in a second, tokenising included, by batch size. Each line of a file is a text.
//!
//! ```sh
//! cargo run -p forebay-model --example throughput -- models/sentiment cpu texts.txt
//! ```
//!
//! `bench/cpu.sh` runs it beside other runtimes.

use anyhow::{Context, Result, ensure};
use forebay_model::{Model, TextModel, TextModelOptions};
use tokio::time::Instant;

/// Texts in one batch; the last is all of them.
const SIZES: [usize; 4] = [1, 8, 32, usize::MAX];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: throughput MODEL DEVICE TEXTS");
    let (model, device, file) = (next()?, next()?.parse()?, next()?);
    let texts = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let texts: Vec<_> = texts.lines().map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "{file} has no line");

    let options = TextModelOptions { device, truncate: true, ..TextModelOptions::new(model) };
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
    Ok(())
}

//! Measures how fast a device computes an encoder of a known size, with random weights.
//!
//! ```sh
//! cargo run --release --example device_bench -- gpu f16 minilm rectangles 1x32,8x128,64x128 1
//! cargo run --release --example device_bench -- gpu f16 minilm flow 64 128 20000
//! ```
//!
//! - `rectangles` computes batches of each shape `ROWSxTOKENS` for the given number of seconds. It
//!   prints the time of the first batch, during which kernels are compiled and tuned, the largest
//!   difference from the CPU's results, texts per second, and latencies.
//! - `flow` warms up all shapes up to `ROWS` and `TOKENS`, and sends `TEXTS` texts of all lengths
//!   through a flow. It prints texts per second, and the share of time in which the model was idle.
//! - `graph` computes only the encoder, without the rest of the model: first by normal calls, then
//!   by replays of a captured graph.
//! - `write` writes the model to a folder, and measures nothing.
//!
//! The precision `f16-plain` is f16 without flash attention. If the environment variable
//! `DECISIONS` names a file, Burn writes to it which kernels it chose. Results are lines of JSON.
//! `bench/gpu.sh` runs this example and the same measurements in `PyTorch`.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use burn::tensor::Tensor;
use cubecl_environment::config::RuntimeConfig as _;
use cubecl_runtime::config::CubeClRuntimeConfig;
use cubecl_runtime::config::cache::CacheConfig;
use forebay_model::checkpoint::{JsonFile, WeightFiles, Weights};
use forebay_model::encoder::{Encoder, Masking, Padded};
use forebay_model::{
    Architecture, Model as _, Precision, Task, TextHandle, TextModel, TextModelOptions, TextOutput,
    Tokens,
};
use forebay_stream::{AdaptiveWindow, Batch, BatchResult, Flow, MapBatch, Pace};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tokio::time::Instant;

const USAGE: &str = "usage: device_bench DEVICE f32|f16|f16-plain minilm|bert-base \
                     rectangles|graph ROWSxTOKENS,.. SECONDS | flow ROWS TOKENS TEXTS | write FOLDER";
const VOCABULARY: usize = 30_522;
const POSITIONS: usize = 512;

/// The sizes of an encoder.
#[derive(Clone, Copy)]
struct Sizes {
    layers: usize,
    hidden: usize,
    heads: usize,
    feed_forward: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context(USAGE);
    let device = next()?.parse()?;
    let precision = next()?;
    let (precision, flash_attention) = match precision.strip_suffix("-plain") {
        Some(precision) => (precision.parse::<Precision>()?, false),
        None => (precision.parse()?, true),
    };
    let shape = next()?;
    let sizes = match shape.as_str() {
        "minilm" => Sizes { layers: 6, hidden: 384, heads: 12, feed_forward: 1536 },
        "bert-base" => Sizes { layers: 12, hidden: 768, heads: 12, feed_forward: 3072 },
        other => bail!("unknown shape {other}, expected minilm or bert-base"),
    };
    record_decisions();
    let folder = tempfile::tempdir()?;
    let options = TextModelOptions {
        task: Some(Task::TextEmbedding),
        device,
        precision,
        flash_attention,
        ..TextModelOptions::new(folder.path())
    };
    match next()?.as_str() {
        what @ ("rectangles" | "graph") => {
            let list = next()?;
            let list: Vec<_> = list.split(',').map(rectangle).collect::<Result<_>>()?;
            let seconds = next()?.parse().context("SECONDS is not a number")?;
            write_model(folder.path(), sizes)?;
            if what == "graph" {
                graph(&options, &shape, &list, seconds)
            } else {
                rectangles(&options, &shape, &list, seconds)
            }
        }
        "flow" => {
            let rows = next()?.parse()?;
            let tokens = next()?.parse()?;
            let texts = next()?.parse().context("TEXTS is not a number")?;
            write_model(folder.path(), sizes)?;
            let options = TextModelOptions { max_batch: rows, max_tokens: Some(tokens), ..options };
            flow(&options, &shape, texts).await
        }
        "write" => {
            let folder = next()?;
            fs::create_dir_all(&folder)?;
            write_model(Path::new(&folder), sizes)
        }
        other => bail!("unknown measurement {other}\n{USAGE}"),
    }
}

/// Parses a rectangle: `8x128` is 8 texts of 128 tokens.
fn rectangle(text: &str) -> Result<[usize; 2]> {
    let numbers = text
        .split_once('x')
        .and_then(|(rows, tokens)| Some([rows.parse().ok()?, tokens.parse().ok()?]));
    let numbers = numbers.filter(|[rows, tokens]| *rows > 0 && (3..=POSITIONS).contains(tokens));
    numbers.with_context(|| format!("{text} is not ROWSxTOKENS with 3 to {POSITIONS} tokens"))
}

/// If `DECISIONS` is set, makes Burn write down the kernels that it chooses, and store its tuning
/// results in Forebay's cache.
fn record_decisions() {
    let Some(file) = std::env::var_os("DECISIONS") else { return };
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.autotune.decisions.file = Some(file.into());
    if let Some(cache) = dirs::cache_dir() {
        config.environment.path = CacheConfig::Directory(cache.join("forebay/kernels"));
    }
    CubeClRuntimeConfig::set(config);
}

fn rectangles(
    options: &TextModelOptions,
    shape: &str,
    rectangles: &[[usize; 2]],
    seconds: f64,
) -> Result<()> {
    let most = |side: usize| rectangles.iter().map(|rectangle| rectangle[side]).max();
    let max_batch = most(0).and_then(NonZeroUsize::new).context("no rectangle")?;
    let max_tokens = most(1).and_then(NonZeroUsize::new);
    let started = Instant::now();
    let mut model =
        TextModel::load(&TextModelOptions { max_batch, max_tokens, ..options.clone() })?;
    let load_s = started.elapsed().as_secs_f64();
    println!("{}", json!({ "case": "start", "device": model.describe(), "load_s": load_s }));
    let mut reference = model.cpu_reference()?;
    for &[rows, length] in rectangles {
        let text = model.tokenize(&"a ".repeat(length - 2))?;
        let started = Instant::now();
        model.infer(&vec![text.clone(); rows])?;
        let first_s = started.elapsed().as_secs_f64();
        // A batch with more than 16,384 tokens is computed in parts, and only one of them is
        // compared.
        let part = rows.min(16_384 / length);
        let difference = reference.difference(&model, [part, length])?;
        measure(&mut model, shape, &text, rows, seconds, (first_s, difference))?;
    }
    Ok(())
}

/// Measures the encoder alone. The tokens stay on the device, and the mean of each text is read
/// back.
///
/// Compares normal calls with replays of a captured graph. A replay leaves out the work that the
/// CPU does for a normal call.
fn graph(
    options: &TextModelOptions,
    shape: &str,
    rectangles: &[[usize; 2]],
    seconds: f64,
) -> Result<()> {
    let Architecture { encoder: sizes, names, .. } =
        Architecture::from_config(&JsonFile::read(&options.path.join("config.json"))?)?;
    let selected = options.device.select()?;
    let device = selected.device();
    let files = WeightFiles::read(&options.path)?;
    let weights = Weights::parse(&files, device)?.in_precision(options.precision);
    let encoder = Encoder::load(&weights, "", &names, &sizes)?;
    let masking = Masking::fastest(options.precision, options.flash_attention);
    for &[rows, length] in rectangles {
        let text = vec![4; length];
        let batch = Padded::new(&vec![text.as_slice(); rows], [rows, length], 0, true);
        let mask = batch.attention_mask(masking, encoder.precision(), device);
        let tokens = batch.tokens(device);
        let weights = batch.mean_weights(device);
        let compute =
            || weights.clone().matmul(encoder.forward_tokens(tokens.clone(), mask.as_ref()));
        let read =
            |pooled: Tensor<3>| pooled.try_into_vec_as::<f32>().map_err(|e| anyhow!("{e:?}"));
        let expected = read(compute())?;
        let (called, _) = times(seconds, || read(compute()).map(drop))?;
        let mut graph = burn::tensor::capture(device, compute);
        let hardware = graph.is_hardware();
        #[expect(unsafe_code, reason = "replays are unsafe to call")]
        let mut replay = || {
            // SAFETY: `compute` owns all tensors that the graph reads, and only this thread uses
            // the device.
            let pooled = unsafe { graph.replay() };
            read(pooled.clone())
        };
        let found = replay()?;
        let differences =
            found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
        // Compares with `total_cmp`, because it orders NaN last; `f32::max` would ignore NaN.
        let difference = differences.max_by(f32::total_cmp).unwrap_or_default();
        let (replayed, _) = times(seconds, || replay().map(drop))?;
        println!(
            "{}",
            json!({ "case": "graph", "shape": shape, "batch": rows, "length": length, "called_ms": called,
                    "replayed_ms": replayed, "hardware": hardware, "difference": difference })
        );
    }
    Ok(())
}

/// Sends texts of all lengths through a flow. Measures the rate, and the share of time in which the
/// model has no batch although texts are waiting.
async fn flow(options: &TextModelOptions, shape: &str, count: usize) -> Result<()> {
    let started = Instant::now();
    let report = |step: forebay_model::WarmUp| {
        if step.done.is_multiple_of(8) || step.done == step.total {
            eprintln!("warm-up {}/{}: {}", step.done, step.total, step.shape);
        }
    };
    let model = TextHandle::spawn("device-bench", options, report).await?;
    let warm_up_s = started.elapsed().as_secs_f64();
    println!("{}", json!({ "case": "start", "device": model.describe(), "warm_up_s": warm_up_s }));
    let longest = options.max_tokens.map_or(POSITIONS, NonZeroUsize::get);
    let texts = (0..count).map(move |n| "a ".repeat(1 + n * n * 7 % (longest - 2)));
    let limits =
        AdaptiveWindow { max_size: options.max_batch, max_wait: Duration::ZERO, max_cost: 16_384 };
    let tokenizer = model.clone();
    let costs = model.costs();
    let in_hand = Arc::new(Mutex::new(InHand::default()));
    let timed = Timed { model, in_hand: Arc::clone(&in_hand) };
    let started = Instant::now();
    let answers = Flow::from_iter(texts)
        .map_async(
            move |text| tokenizer.clone().tokenize(text),
            std::thread::available_parallelism()?,
        )
        .adaptive_window_by_length(limits, costs, |tokens| tokens.ids().len() as u64, |_| Ok(None))
        .map_batch(timed)
        .collect()
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(answers.len() == count, "{} answers to {count} texts", answers.len());
    let busy = in_hand.lock().busy;
    let idle = 1.0 - busy.as_secs_f64() / seconds;
    let rate = f64::from(u32::try_from(count)?) / seconds;
    println!(
        "{}",
        json!({ "case": "flow", "shape": shape, "texts_per_s": rate, "idle_share": idle })
    );
    Ok(())
}

/// The time during which a model had at least one batch.
#[derive(Default)]
struct InHand {
    batches: usize,
    since: Option<Instant>,
    busy: Duration,
}

/// A model that measures when it has batches.
struct Timed {
    model: TextHandle,
    in_hand: Arc<Mutex<InHand>>,
}

impl Timed {
    fn change(&self, change: impl FnOnce(&mut InHand)) {
        change(&mut self.in_hand.lock());
    }
}

impl MapBatch<Tokens> for Timed {
    type Output = TextOutput;

    async fn call(&self, batch: Batch<Tokens>) -> BatchResult<TextOutput> {
        self.change(|in_hand| {
            in_hand.batches += 1;
            in_hand.since.get_or_insert_with(Instant::now);
        });
        let results = self.model.call(batch).await;
        self.change(|in_hand| {
            in_hand.batches -= 1;
            if in_hand.batches == 0 {
                in_hand.busy +=
                    in_hand.since.take().map(|since| since.elapsed()).unwrap_or_default();
            }
        });
        results
    }

    fn pace(&self) -> Pace {
        MapBatch::<Tokens>::pace(&self.model)
    }
}

/// Returns the median and the 99th percentile of `run`'s time, in milliseconds.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn times(seconds: f64, mut run: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    run()?;
    let started = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || started.elapsed().as_secs_f64() < seconds {
        let one = Instant::now();
        run()?;
        times.push(1e3 * one.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok((at(0.5), at(0.99)))
}

/// Measures batches of `batch` equal texts, and prints the results.
#[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 texts")]
fn measure(
    model: &mut TextModel,
    shape: &str,
    text: &Tokens,
    batch: usize,
    seconds: f64,
    (first_s, difference): (f64, f32),
) -> Result<()> {
    let texts = vec![text.clone(); batch];
    let (p50, p99) = times(seconds, || {
        model.infer(&texts)?;
        Ok(())
    })?;
    let rate = 1e3 * batch as f64 / p50;
    let length = text.ids().len();
    println!(
        "{}",
        json!({ "case": "batch", "shape": shape, "batch": batch, "length": length, "texts_per_s": rate,
                "p50_ms": p50, "p99_ms": p99, "first_s": first_s, "difference": difference })
    );
    Ok(())
}

/// Writes a model directory with random weights. Its tokenizer knows only the word `a`.
fn write_model(folder: &Path, sizes: Sizes) -> Result<()> {
    let Sizes { layers, hidden, heads, feed_forward } = sizes;
    let config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCABULARY, "type_vocab_size": 2,
        "max_position_embeddings": POSITIONS, "hidden_size": hidden, "num_attention_heads": heads,
        "num_hidden_layers": layers, "intermediate_size": feed_forward, "hidden_act": "gelu", "pad_token_id": 0,
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    let vocabulary = json!({ "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4 });
    let special = |id: usize, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "pre_tokenizer": { "type": "Whitespace" }, "decoder": null,
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;

    let mut tensors: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| drop(tensors.insert(name, shape.to_vec()));
    for (table, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)] {
        add(format!("embeddings.{table}_embeddings.weight"), &[rows, hidden]);
    }
    let norm = |name: &str| [format!("{name}.LayerNorm.weight"), format!("{name}.LayerNorm.bias")];
    for name in norm("embeddings") {
        add(name, &[hidden]);
    }
    for layer in 0..layers {
        let layer = format!("encoder.layer.{layer}");
        for (name, outputs, inputs) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", feed_forward, hidden),
            ("output.dense", hidden, feed_forward),
        ] {
            add(format!("{layer}.{name}.weight"), &[outputs, inputs]);
            add(format!("{layer}.{name}.bias"), &[outputs]);
        }
        for part in ["attention.output", "output"] {
            for name in norm(&format!("{layer}.{part}")) {
                add(name, &[hidden]);
            }
        }
    }
    let mut seed = 7_u32;
    let values: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let around = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let count: usize = shape.iter().product();
            let values = (0..count).flat_map(|_| (around + random(&mut seed)).to_le_bytes());
            let values = values.collect();
            (name, shape, values)
        })
        .collect();
    let views: Vec<(&String, TensorView<'_>)> = values
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<_>>()?;
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None)?)?;
    Ok(())
}

/// Returns a random number between -0.04 and 0.04. Weights in this range keep intermediate results
/// about as small as trained weights do.
#[expect(clippy::cast_precision_loss)]
fn random(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    ((*seed >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.08
}

//! Compares the kernels of the CPU encoder with the matrix product of the `gemm` crate, on one
//! thread:
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml -p forebay-bench-kernels -- check
//! ```
//!
//! The command prints the rate of each kernel, that of gemm, and their ratio. With `check` it fails
//! if a ratio is too low and is still too low when it is measured again. Each time is the shortest
//! of several runs, which alternate between the kernel and gemm. `--lanes 8` measures the kernels
//! for processors without AVX-512, and `--lanes 4` those for processors without AVX2.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use forebay_cpu_encoder::parts::{self, Linear, Workspace};
use forebay_cpu_encoder::{
    Activation, EmbeddingWeights, Encoder, EncoderWeights, LayerWeights, LinearWeights,
    NormWeights, Options, Pool, Precision,
};

/// Sizes of all-MiniLM-L6-v2.
const HIDDEN: usize = 384;
const FEED_FORWARD: usize = 1536;
const HEADS: usize = 12;
const LAYERS: usize = 6;

/// Rows, inputs and outputs of products in that model.
const SHAPES: [[usize; 3]; 6] = [
    [512, HIDDEN, 3 * HIDDEN],
    [512, HIDDEN, HIDDEN],
    [512, HIDDEN, FEED_FORWARD],
    [512, FEED_FORWARD, HIDDEN],
    [64, HIDDEN, FEED_FORWARD],
    [8, HIDDEN, FEED_FORWARD],
];

/// Lengths of the texts for the whole encoder, in tokens: short ones and a long one.
const TEXTS: [usize; 16] = [8, 12, 9, 31, 17, 24, 11, 40, 8, 15, 22, 128, 13, 9, 27, 10];

/// Smallest acceptable ratio of a product's rate to that of gemm.
const LEAST_PRODUCT_RATIO: f64 = 0.8;

/// Smallest acceptable ratio of gemm's time for the products with weights to the time of the whole
/// encoder, which also computes attention, normalisation and activations.
const LEAST_ENCODER_RATIO: f64 = 0.5;

/// Factor of the smallest acceptable ratios for bf16, because its instruction is half as fast on
/// Intel's processors.
const BF16_FACTOR: f64 = 0.5;

/// Number of runs in the first measurement, and in a repeated one.
const RUNS: [usize; 2] = [15, 100];

/// The times of a kernel and of its peer.
struct Row {
    name: String,
    ours: Duration,
    peer: Duration,
    operations: f64,
    least: f64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.peer.as_secs_f64() / self.ours.as_secs_f64()
    }

    fn print(&self) {
        let rate = |time: Duration| self.operations / time.as_secs_f64() / 1e9;
        let Self { name, least, .. } = self;
        println!(
            "{name:30} {:>8.1} {:>8.1} {:>7.2} {least:>7.2}",
            rate(self.ours),
            rate(self.peer),
            self.ratio()
        );
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|argument| argument == "check");
    let lanes = arguments.iter().skip_while(|argument| *argument != "--lanes").nth(1);
    // gemm always uses the widest vectors. If the kernels are limited to narrower ones, their ratio
    // may be lower.
    let share = match lanes.map(|lanes| lanes.parse()) {
        None => 1.0,
        Some(Ok(lanes)) => {
            parts::limit_lanes(lanes);
            if lanes >= 16 {
                1.0
            } else if lanes >= 8 {
                0.4
            } else {
                0.05
            }
        }
        Some(Err(error)) => {
            eprintln!("--lanes needs a number: {error}");
            return ExitCode::from(64);
        }
    };
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    let instructions = forebay_cpu_encoder::instructions();
    println!("{instructions}, {profile} profile, one thread");
    println!("{:30} {:>8} {:>8} {:>7} {:>7}", "", "GFLOP/s", "gemm", "ratio", "least");
    let mut low = Vec::new();
    for measure in measurements() {
        let mut row = measure(share, RUNS[0]);
        row.print();
        if check && row.ratio() < row.least {
            println!("{:30} measured again:", "");
            row = measure(share, RUNS[1]);
            row.print();
            if row.ratio() < row.least {
                low.push(row.name);
            }
        }
    }
    if low.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("too slow compared with gemm: {}", low.join(", "));
    ExitCode::FAILURE
}

/// Measures a row. The arguments are a factor for the smallest acceptable ratio, and the number of
/// runs.
type Measure = Box<dyn Fn(f64, usize) -> Row>;

fn measurements() -> Vec<Measure> {
    let mut measurements: Vec<Measure> = Vec::new();
    for (precision, share) in [(Precision::F32, 1.0), (Precision::Bf16, BF16_FACTOR)] {
        for shape in SHAPES {
            measurements
                .push(Box::new(move |limit, runs| product(shape, precision, share * limit, runs)));
        }
        measurements.push(Box::new(move |limit, runs| encoder(precision, share * limit, runs)));
    }
    measurements
}

fn product(
    [rows, inputs, outputs]: [usize; 3],
    precision: Precision,
    share: f64,
    runs: usize,
) -> Row {
    let left = numbers(rows * inputs);
    let weights = linear(inputs, outputs);
    let weight = weights.weight.clone();
    let linear = Linear::new(weights, precision);
    let mut workspace = Workspace::default();
    let mut found = Vec::new();
    let mut peer = vec![0.0; rows * outputs];
    let (ours, theirs) = interleaved(
        runs,
        || linear.product(&left, &mut found, &mut workspace, 1),
        || multiply([rows, inputs, outputs], &left, &weight, &mut peer),
    );
    let off = found.iter().zip(&peer).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let tolerance = if precision == Precision::F32 { 1e-3 } else { 1.0 };
    assert!(off < tolerance, "the two products differ by {off}");
    Row {
        name: format!("{precision:?} {rows}x{inputs} by {inputs}x{outputs}"),
        ours,
        peer: theirs,
        operations: operations([rows, inputs, outputs]),
        least: LEAST_PRODUCT_RATIO * share,
    }
}

fn encoder(precision: Precision, share: f64, runs: usize) -> Row {
    let one = std::num::NonZeroUsize::MIN;
    let options = Options { threads: Some(one), precision };
    let encoder = Encoder::new(weights(), options).expect("a thread starts");
    let ids: Vec<u32> = (0..).take(TEXTS.iter().sum()).map(|id| id % 100).collect();
    let mut rest = ids.as_slice();
    let mut texts = Vec::new();
    for length in TEXTS {
        let (text, after) = rest.split_at(length);
        texts.push(text);
        rest = after;
    }
    let tokens = ids.len();
    let shapes = [
        [tokens, HIDDEN, 3 * HIDDEN],
        [tokens, HIDDEN, HIDDEN],
        [tokens, HIDDEN, FEED_FORWARD],
        [tokens, FEED_FORWARD, HIDDEN],
    ];
    let mut factors = shapes.map(|[rows, inputs, outputs]| {
        (numbers(rows * inputs), numbers(inputs * outputs), vec![0.0; rows * outputs])
    });
    let (ours, theirs) = interleaved(
        runs,
        || drop(encoder.forward(&texts, Pool::Mean)),
        || {
            for _ in 0..LAYERS {
                for (shape, (left, right, out)) in shapes.into_iter().zip(&mut factors) {
                    multiply(shape, left, right, out);
                }
            }
        },
    );
    #[expect(clippy::cast_precision_loss, reason = "there are six layers")]
    let layers = LAYERS as f64;
    Row {
        name: format!("{precision:?} encoder, {tokens} tokens"),
        ours,
        peer: theirs,
        operations: layers * shapes.map(operations).iter().sum::<f64>(),
        least: LEAST_ENCODER_RATIO * share,
    }
}

/// Returns the number of multiplications and additions of a product.
#[expect(clippy::cast_precision_loss, reason = "the shapes are small")]
fn operations([rows, inputs, outputs]: [usize; 3]) -> f64 {
    2.0 * (rows * inputs * outputs) as f64
}

/// Calls two functions in turn, and returns the shortest time of each, which other load on the
/// machine has slowed down least.
fn interleaved(
    runs: usize,
    mut first: impl FnMut(),
    mut second: impl FnMut(),
) -> (Duration, Duration) {
    // Repeats a function often enough for the resolution of the clock.
    let time = |function: &mut dyn FnMut(), count: u32| {
        let started = Instant::now();
        for _ in 0..count {
            function();
        }
        started.elapsed() / count
    };
    let count = |function: &mut dyn FnMut()| {
        time(function, 2);
        let once = time(function, 1).max(Duration::from_nanos(100));
        u32::try_from((Duration::from_millis(10).as_nanos() / once.as_nanos()).max(1))
            .unwrap_or(u32::MAX)
    };
    let counts = [count(&mut first), count(&mut second)];
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..runs {
        shortest[0] = shortest[0].min(time(&mut first, counts[0]));
        shortest[1] = shortest[1].min(time(&mut second, counts[1]));
    }
    let [first, second] = shortest;
    (first, second)
}

fn multiply([rows, inputs, outputs]: [usize; 3], left: &[f32], right: &[f32], out: &mut [f32]) {
    assert_eq!(
        [left.len(), right.len(), out.len()],
        [rows * inputs, inputs * outputs, rows * outputs]
    );
    let step = |columns: usize| isize::try_from(columns).expect("a dimension fits an isize");
    // SAFETY: the slices have the lengths of dense matrices of these sizes, and `out` overlaps
    // neither.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            inputs,
            out.as_mut_ptr(),
            1,
            step(outputs),
            false,
            left.as_ptr(),
            1,
            step(inputs),
            right.as_ptr(),
            1,
            step(outputs),
            0.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn weights() -> EncoderWeights {
    let norm =
        || NormWeights { scale: vec![1.0; HIDDEN], shift: vec![0.0; HIDDEN], epsilon: 1e-12 };
    let layer = |_| LayerWeights {
        query_key_value: linear(HIDDEN, 3 * HIDDEN),
        attention_output: linear(HIDDEN, HIDDEN),
        attention_norm: norm(),
        feed_forward: linear(HIDDEN, FEED_FORWARD),
        output: linear(FEED_FORWARD, HIDDEN),
        output_norm: norm(),
    };
    EncoderWeights {
        embeddings: EmbeddingWeights {
            tokens: numbers(100 * HIDDEN),
            positions: numbers(512 * HIDDEN),
            norm: norm(),
            projection: None,
        },
        layers: (0..LAYERS).map(layer).collect(),
        heads: HEADS,
        activation: Activation::Gelu,
    }
}

fn linear(inputs: usize, outputs: usize) -> LinearWeights {
    LinearWeights { weight: numbers(inputs * outputs), bias: vec![0.1; outputs] }
}

/// Returns `count` numbers between -0.1 and 0.1.
fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|n| {
            f32::from(u16::try_from(n * 7919 % 2001).expect("the remainder fits a u16")) / 10_000.0
                - 0.1
        })
        .collect()
}

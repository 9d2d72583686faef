//! The pipeline that the demo and the benchmark run: the shipped sentiment model, batched or one by one.

use std::path::{Path, PathBuf};

use forebay_model::DeviceChoice;
use forebay_pipeline::Plan;

/// The file that `forebay run` would be given, and that the README explains.
const PIPELINE: &str = include_str!("../../../config/sentiment.toml");

/// What it is compared with.
const ONE_BY_ONE: &str = include_str!("../../../config/one-by-one.toml");

/// Short texts to classify, each after the label that a person would give it. They were written before the shipped model
/// was trained.
const TEXTS: &str = include_str!("sentiment/texts.tsv");

/// Where the shipped model is: in the working directory, where this was built, or where packages put it.
const MODEL_PATHS: [&str; 3] = [
    "models/sentiment",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/sentiment"),
    "/usr/share/forebay/models/sentiment",
];

/// Which model to run, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// A text-classification model in the Hugging Face layout [default: the shipped sentiment model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where the model computes: auto, cpu, gpu, gpu:N or gpu:software
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// A text to classify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelledText {
    pub(crate) text: &'static str,
    /// The label that a person would give it: `positive` or `negative`.
    pub(crate) label: &'static str,
}

/// Texts to send, in turn.
pub(crate) fn texts() -> Vec<LabelledText> {
    let parse = |line: &'static str| {
        let (label, text) = line.split_once('\t').expect("every line has a label");
        LabelledText { text, label }
    };
    TEXTS.lines().map(parse).collect()
}

/// The topics of a run: requests and replies.
pub(crate) fn topics(run: &str) -> (String, String) {
    (format!("sentiment.{run}.requests"), format!("sentiment.{run}.replies"))
}

/// The pipeline of one run, on topics of its own.
pub(crate) fn plan(args: &ModelArgs, run: &str) -> anyhow::Result<Plan> {
    parse(args, run, "config/sentiment.toml", PIPELINE)
}

/// The same pipeline with batching off: each request is a batch of its own.
pub(crate) fn one_by_one(args: &ModelArgs, run: &str) -> anyhow::Result<Plan> {
    parse(args, run, "config/one-by-one.toml", ONE_BY_ONE)
}

fn parse(args: &ModelArgs, run: &str, name: &str, text: &str) -> anyhow::Result<Plan> {
    let shipped = || MODEL_PATHS.iter().find(|path| Path::new(path).join("config.json").is_file());
    let path = match &args.model {
        Some(path) => path.clone(),
        None => shipped().unwrap_or(&MODEL_PATHS[0]).into(),
    };
    let (requests, replies) = topics(run);
    // The other variables of the file have defaults.
    let lookup = |variable: &str| match variable {
        "REQUESTS_TOPIC" => Some(requests.clone()),
        "REPLIES_TOPIC" => Some(replies.clone()),
        "CONSUMER_GROUP" => Some(format!("sentiment-{run}")),
        "SENTIMENT_MODEL" => Some(path.to_string_lossy().into_owned()),
        "DEVICE" => Some(args.device.to_string()),
        _ => None,
    };
    let plan = Plan::parse(Path::new(name), text, &lookup)?;
    plan.check_models()?;
    Ok(plan)
}

//! The pipelines of the demo and the benchmark: the shipped sentiment model, batched or one by one.

use std::path::{Path, PathBuf};

use forebay_model::DeviceChoice;
use forebay_pipeline::Plan;

/// The batched pipeline, which the README explains.
const PIPELINE: &str = include_str!("../../../config/sentiment.toml");

/// The pipeline for comparison, whose batches have one request.
const ONE_BY_ONE: &str = include_str!("../../../config/one-by-one.toml");

/// Short texts to classify, each after the label that a person gave it. They were written before
/// the shipped model was trained, so none was chosen to suit it.
const TEXTS: &str = include_str!("sentiment/texts.tsv");

/// Possible paths of the shipped model: the working directory, the source tree of this build, and
/// the folder of installed packages.
const MODEL_PATHS: [&str; 3] = [
    "models/sentiment",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/sentiment"),
    "/usr/share/forebay/models/sentiment",
];

/// Options that choose the model and its device.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Directory of a text-classification model in the Hugging Face layout [default: the shipped
    /// sentiment model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Device of the model: auto, cpu, gpu, gpu:N or gpu:software
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// A text to classify, with its expected label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelledText {
    pub(crate) text: &'static str,
    /// The label that a person gave it: `positive` or `negative`.
    pub(crate) label: &'static str,
}

/// Returns the texts to send.
pub(crate) fn texts() -> Vec<LabelledText> {
    let parse = |line: &'static str| {
        let (label, text) = line.split_once('\t').expect("every line has a label");
        LabelledText { text, label }
    };
    TEXTS.lines().map(parse).collect()
}

/// Returns the topics of requests and replies of a run.
pub(crate) fn topics(run: &str) -> (String, String) {
    (format!("sentiment.{run}.requests"), format!("sentiment.{run}.replies"))
}

/// Returns the batched pipeline, on the topics of `run`.
pub(crate) fn plan(args: &ModelArgs, run: &str) -> anyhow::Result<Plan> {
    parse(args, run, "config/sentiment.toml", PIPELINE)
}

/// Returns the same pipeline without batching, on the topics of `run`.
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
    // All other variables in the files have defaults.
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

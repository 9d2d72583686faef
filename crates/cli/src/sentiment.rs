//! The pipeline that the demo and the benchmark run: the shipped sentiment model, batched or one by one.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use forebay_model::DeviceChoice;
use forebay_pipeline::{Plan, SinkPlan, SourcePlan, StepPlan};

/// The file that `forebay run` would be given, and that the README explains.
const PIPELINE: &str = include_str!("../../../config/sentiment.toml");

/// Short texts to classify.
const TEXTS: &str = include_str!("sentiment/texts.txt");

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

/// Texts to send, in turn.
pub(crate) fn texts() -> Vec<&'static str> {
    TEXTS.lines().collect()
}

/// The topics of a run: requests and replies.
pub(crate) fn topics(run: &str) -> (String, String) {
    (format!("sentiment.{run}.requests"), format!("sentiment.{run}.replies"))
}

/// The pipeline of one run, on topics of its own.
pub(crate) fn plan(args: &ModelArgs, run: &str) -> anyhow::Result<Plan> {
    let shipped = || MODEL_PATHS.iter().find(|path| Path::new(path).join("config.json").is_file());
    let path = match &args.model {
        Some(path) => path.clone(),
        None => shipped().unwrap_or(&MODEL_PATHS[0]).into(),
    };
    // Every variable of the file has a default.
    let mut plan = Plan::parse(Path::new("config/sentiment.toml"), PIPELINE, &|_| None)?;
    let (requests, replies) = topics(run);
    if let SourcePlan::Kafka(source) = &mut plan.source {
        source.topic = requests;
        source.group = format!("sentiment-{run}");
    }
    if let SinkPlan::Kafka(sink) = &mut plan.sink {
        sink.topic = replies;
    }
    for model in plan.models.values_mut() {
        model.path.clone_from(&path);
        model.device = args.device;
    }
    plan.check_models()?;
    Ok(plan)
}

/// The same pipeline with batching off: each request is a batch of its own.
pub(crate) fn unbatched(mut plan: Plan) -> Plan {
    for step in &mut plan.steps {
        if matches!(step, StepPlan::TimedWindow { .. } | StepPlan::Partition { .. }) {
            *step = StepPlan::Partition { size: NonZeroUsize::MIN, timeout: None };
        }
    }
    for model in plan.models.values_mut() {
        model.max_batch = NonZeroUsize::MIN;
    }
    plan
}

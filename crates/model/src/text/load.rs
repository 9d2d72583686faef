//! Loading a text model from a directory onto its device.

use std::sync::Arc;

use burn::tensor::DType;
use forebay_stream::batching::{CostModel, Shapes};
use serde_json::Value;
use tracing::warn;

use super::backbone::Backbone;
use super::output::{Answers, Labels, Reduce};
use super::plan::Memory;
use super::pooling::Pooling;
use super::tokens::Tokenizer;
use super::{
    ClassificationOptions, Precision, Scores, Task, TextFrontend, TextModel, TextModelOptions, plan,
};
use crate::checkpoint::{self, JsonFile, Weights};
use crate::cpu::cpu_encoder;
use crate::encoder::{Encoder, Head, Masking};
use crate::{Architecture, Error, SelectedDevice};

/// Loads a text model. Reads the small files first, so that a wrong directory fails before a device
/// is opened.
pub(super) fn load(options: &TextModelOptions) -> Result<TextModel, Error> {
    let directory = &options.path;
    let config = JsonFile::read(&directory.join("config.json"))?;
    let architecture = Architecture::from_config(&config)?;
    let Architecture { model_type, encoder: sizes, names, head } = &architecture;
    let task = options.task.map_or_else(|| infer_task(&config), Ok)?;
    check_options(options, task)?;
    let answers = match task {
        Task::TextClassification => Answers::Labels(labels(&config, options.classification)?),
        Task::TextEmbedding => {
            Answers::Vector(Pooling::read(directory, &options.embedding, sizes.hidden)?)
        }
    };
    let tokenizer = Tokenizer::load(directory, &config, sizes, options)?;

    let device = options.device.select()?;
    let path = directory.join("model.safetensors");
    let bytes = checkpoint::read(&path)?;
    check_precision(options.precision, &device)?;
    let weights = Weights::parse(&path, &bytes, device.device())?;
    let prefixed = weights.contains(&format!("{}embeddings.word_embeddings.weight", names.prefix));
    let prefix = if prefixed { names.prefix } else { "" };
    let reduce = match &answers {
        Answers::Labels(labels) => {
            let head = Head::load(&weights, prefix, head, sizes.hidden, labels.names.len())?;
            Reduce::Head(Box::new(head))
        }
        Answers::Vector(pooling) => Reduce::Pooling(*pooling),
    };
    let weights = weights.in_precision(options.precision);
    let encoder = Encoder::load(&weights, prefix, names, sizes)?;
    let memory = Memory {
        // The size of an f32, whatever the precision is: if a lower precision gives wrong results,
        // the warm-up switches to f32.
        number: 4,
        token: sizes.feed_forward.max(3 * sizes.hidden) as u64,
        pair: sizes.heads as u64,
        most: device.largest_buffer(),
    };
    let shapes = match (device.is_gpu(), device.is_software()) {
        (false, _) => Shapes::ragged(),
        (true, false) => plan::ladder(options.max_batch, tokenizer.max_tokens(), memory),
        (true, true) => plan::single(options.max_batch, tokenizer.max_tokens(), memory),
    };
    let backbone = if device.is_gpu() {
        let padding = tokenizer.padding();
        let masking = Masking::fastest(options.precision, options.flash_attention);
        Backbone::Padded { encoder: Box::new(encoder), masking, padding }
    } else {
        Backbone::Cpu(Box::new(cpu_encoder(encoder, sizes, cpu_options(options))?))
    };
    let precision = match options.precision {
        Precision::F32 => String::new(),
        other => format!(", {other}"),
    };
    let name = format!("{} ({model_type}, {task}{precision})", directory.display());
    let frontend =
        TextFrontend { tokenizer: tokenizer.into(), costs: CostModel::new(shapes).into() };
    Ok(TextModel {
        backbone,
        reduce,
        answers: answers.into(),
        frontend,
        device,
        name,
        vocabulary: sizes.vocabulary,
        options: options.clone(),
        lost: Arc::default(),
        clock: Arc::default(),
    })
}

fn cpu_options(options: &TextModelOptions) -> forebay_cpu_encoder::Options {
    let precision = match options.precision {
        Precision::Bf16 => forebay_cpu_encoder::Precision::Bf16,
        Precision::F32 | Precision::F16 => forebay_cpu_encoder::Precision::F32,
    };
    if precision == forebay_cpu_encoder::Precision::Bf16 && !forebay_cpu_encoder::bf16_is_faster() {
        warn!("precision = \"f32\" is faster than \"bf16\" on this processor");
    }
    forebay_cpu_encoder::Options { threads: options.threads, precision }
}

/// Refuses a precision that the device does not support.
fn check_precision(precision: Precision, device: &SelectedDevice) -> Result<(), Error> {
    let can = match precision {
        Precision::F32 => true,
        Precision::Bf16 => !device.is_gpu(),
        Precision::F16 => device.is_gpu() && device.device().supports_dtype(DType::F16),
    };
    if can {
        return Ok(());
    }
    Err(Error::Precision { asked: precision, device: device.reason().to_owned() })
}

/// Infers the task from the name of the model's class in transformers, such as
/// `BertForSequenceClassification`.
fn infer_task(config: &JsonFile) -> Result<Task, Error> {
    let classes = config.get("architectures").and_then(Value::as_array);
    let class = classes.and_then(|list| list.first()).and_then(Value::as_str).unwrap_or_default();
    if class.ends_with("ForSequenceClassification") {
        return Ok(Task::TextClassification);
    }
    if class.ends_with("Model") {
        return Ok(Task::TextEmbedding);
    }
    Err(Error::UnknownTask { path: config.path().into() })
}

/// Reads a classifier's labels, in the order of its classes. If the options do not say how to score
/// them, this is decided by the same rules as in the pipelines of the library transformers.
fn labels(config: &JsonFile, options: ClassificationOptions) -> Result<Labels, Error> {
    let none = || Error::NoLabels { path: config.path().into() };
    let names = config.get("id2label").and_then(Value::as_object).ok_or_else(none)?;
    let label = |class: usize| {
        let name = names.get(&class.to_string()).and_then(Value::as_str);
        name.map(str::to_owned)
            .ok_or_else(|| config.bad("id2label", "a name for each class from \"0\" on"))
    };
    let names = (0..names.len()).map(label).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(none());
    }
    let default_scores = match config.get("problem_type").and_then(Value::as_str) {
        None | Some("single_label_classification") if names.len() > 1 => Scores::Softmax,
        None | Some("single_label_classification" | "multi_label_classification") => {
            Scores::Sigmoid
        }
        Some("regression") => Scores::None,
        Some(kind) => {
            let known = "single_label_classification, multi_label_classification, regression";
            return Err(config.unsupported("problem_type", kind, known));
        }
    };
    let ClassificationOptions { top_k, scores } = options;
    Ok(Labels { names, scores: scores.unwrap_or(default_scores), top_k })
}

/// Refuses options that do not belong to `task`, because they would have no effect.
fn check_options(options: &TextModelOptions, task: Task) -> Result<(), Error> {
    let embedding = &options.embedding;
    let classification = &options.classification;
    let given = [
        ("pooling", embedding.pooling.is_some(), Task::TextEmbedding),
        ("normalize", embedding.normalize.is_some(), Task::TextEmbedding),
        ("dimensions", embedding.dimensions.is_some(), Task::TextEmbedding),
        ("top_k", classification.top_k.is_some(), Task::TextClassification),
        ("scores", classification.scores.is_some(), Task::TextClassification),
    ];
    match given.into_iter().find(|(_, given, for_task)| *given && *for_task != task) {
        Some((option, _, for_task)) => Err(Error::OptionOfAnotherTask { option, task, for_task }),
        None => Ok(()),
    }
}

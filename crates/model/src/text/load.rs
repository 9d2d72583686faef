//! From a directory to a model on its device.

use serde_json::Value;

use super::backbone::Backbone;
use super::output::Interpreter;
use super::pooling::Pooling;
use super::shapes::Shapes;
use super::tokens::Tokenizer;
use super::{Task, TextModel, TextModelOptions};
use crate::checkpoint::{self, JsonFile, Weights};
use crate::cpu::CpuEncoder;
use crate::encoder::{Encoder, Head};
use crate::{Architecture, Error};

/// Reads the small files first, so that a wrong directory fails before a device is opened.
pub(super) fn load(options: &TextModelOptions) -> Result<TextModel, Error> {
    let directory = &options.path;
    let config = JsonFile::read(&directory.join("config.json"))?;
    let architecture = Architecture::from_config(&config)?;
    let Architecture { model_type, encoder: sizes, names, head } = &architecture;
    let task = options.task.map_or_else(|| infer_task(&config), Ok)?;
    let labels = match task {
        Task::TextClassification => labels(&config)?,
        Task::TextEmbedding => Vec::new(),
    };
    let tokenizer =
        Tokenizer::load(directory, &config, sizes, options.max_tokens, options.truncate)?;

    let device = options.device.select()?;
    let path = directory.join("model.safetensors");
    let bytes = checkpoint::read(&path)?;
    let weights = Weights::parse(&path, &bytes, device.device())?;
    let prefixed = weights.contains(&format!("{}embeddings.word_embeddings.weight", names.prefix));
    let prefix = if prefixed { names.prefix } else { "" };
    let encoder = Encoder::load(&weights, prefix, names, sizes)?;
    let interpreter = match task {
        Task::TextClassification => {
            let head = Head::load(&weights, prefix, head, sizes.hidden, labels.len())?;
            Interpreter::Classes { head: Box::new(head), labels }
        }
        Task::TextEmbedding => Interpreter::Vector(Pooling::read(directory)?),
    };
    let shapes = match (device.is_gpu(), device.is_software()) {
        (false, _) => Shapes::any(),
        (true, false) => Shapes::ladder(options.max_batch, tokenizer.max_tokens()),
        (true, true) => Shapes::single(options.max_batch, tokenizer.max_tokens()),
    };
    let backbone = if device.is_gpu() {
        let padding = tokenizer.padding();
        Backbone::Padded { encoder: Box::new(encoder), padding }
    } else {
        Backbone::Cpu(Box::new(CpuEncoder::new(encoder, sizes, options.threads)?))
    };
    let name = format!("{} ({model_type}, {task})", directory.display());
    let (vocabulary, options) = (sizes.vocabulary, options.clone());
    Ok(TextModel { backbone, interpreter, tokenizer, shapes, device, name, vocabulary, options })
}

/// The task by the class that the weights were saved from, such as `BertForSequenceClassification`.
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

/// The labels in the order of their classes.
fn labels(config: &JsonFile) -> Result<Vec<String>, Error> {
    if let Some(kind) = config.get("problem_type").and_then(Value::as_str)
        && kind != "single_label_classification"
    {
        return Err(config.unsupported("problem_type", kind, "single_label_classification"));
    }
    let none = || Error::NoLabels { path: config.path().into() };
    let names = config.get("id2label").and_then(Value::as_object).ok_or_else(none)?;
    let label = |class: usize| {
        let name = names.get(&class.to_string()).and_then(Value::as_str);
        name.map(str::to_owned)
            .ok_or_else(|| config.bad("id2label", "a name for each class from \"0\" on"))
    };
    let labels = (0..names.len()).map(label).collect::<Result<Vec<_>, _>>()?;
    if labels.is_empty() { Err(none()) } else { Ok(labels) }
}

//! Loading a text model from a directory onto its device.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::DType;
use forebay_stream::batching::{CostModel, Shapes};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::warn;

use super::backbone::Backbone;
use super::labels::LabelConfig;
use super::modules::Modules;
use super::output::{Answers, Reduce};
use super::plan::Memory;
use super::pooling::{Pooling, PoolingConfig};
use super::sentence::SentenceSettings;
use super::tokens::Tokenizer;
use super::vector_layers::LayerConfigs;
use super::{Precision, Task, TextFrontend, TextModel, TextModelOptions, plan};
use crate::architecture::unknown_settings;
use crate::checkpoint::{Expected, JsonFile, WeightFiles, Weights};
use crate::cpu::cpu_encoder;
use crate::encoder::{Encoder, Head, Masking};
use crate::{Architecture, Error, SelectedDevice};

/// Loads a text model. Reads the small files first, so that a wrong directory fails before a device
/// is opened.
pub(super) fn load(options: &TextModelOptions) -> Result<TextModel, Error> {
    let modules = Modules::read(&options.path)?;
    let directory = &modules.encoder_directory(&options.path);
    let config = JsonFile::read(&directory.join("config.json"))?;
    check_adapter(directory)?;
    let architecture = Architecture::from_config(&config)?;
    let Architecture { model_type, encoder: sizes, names, head } = &architecture;
    let task = options.task.map_or_else(|| infer_task(&config), Ok)?;
    check_options(options, task)?;
    let sentence = SentenceSettings::read(&options.path, directory, task)?;
    let pooling = PoolingConfig {
        directory: &options.path,
        modules: &modules,
        options: &options.embedding,
        truncated: sentence.truncated,
        has_prompt: !options.prompt.as_ref().unwrap_or(&sentence.prompt).is_empty(),
    };
    let output = match task {
        Task::TextClassification => {
            Output::Labels(LabelConfig::read(&config, options.classification)?)
        }
        Task::TextEmbedding => {
            let (pooling, layers) = Pooling::read(&pooling, sizes.hidden)?;
            Output::Vector(pooling, layers)
        }
    };
    let tokenizer = Tokenizer::load(directory, &config, sizes, &sentence, options)?;

    let device = options.device.select()?;
    let files = WeightFiles::read(directory)?;
    check_precision(options.precision, &device)?;
    let weights = Weights::parse(&files, device.device())?.within(&device);
    let prefixed = weights.contains(&format!("{}embeddings.word_embeddings.weight", names.prefix));
    let prefix = if prefixed { names.prefix } else { "" };
    let mut warnings = Vec::from_iter(unknown_settings(&config));
    let (answers, reduce) = match output {
        Output::Labels(labels) => {
            let labels = labels.of(head, &weights, &mut warnings)?;
            let head = Head::load(&weights, prefix, head, sizes.hidden, labels.names.len())?;
            (Answers::Labels(labels), Reduce::Head(Box::new(head)))
        }
        Output::Vector(pooling, layers) => {
            let layers = layers.load(&options.path, &device, &mut warnings)?;
            (Answers::Vector(pooling), Reduce::Pooling(pooling, layers))
        }
    };
    let weights = weights.in_precision(options.precision);
    let encoder = Encoder::load(&weights, prefix, names, sizes)?;
    warnings.extend(weights.warnings(Some(&Expected {
        layers: format!("{prefix}{}", names.layers),
        count: sizes.layers,
        config: config.path(),
    })));
    for warning in &warnings {
        log_once(warning);
    }
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
    // The user has not asked for the model's default prompt, so the log shows it.
    let prompt = match &options.prompt {
        None if !sentence.prompt.is_empty() => format!(", prompt {:?}", sentence.prompt),
        _ => String::new(),
    };
    let name = format!("{} ({model_type}, {task}{precision}{prompt})", directory.display());
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
        warnings,
        lost: Arc::default(),
        clock: Arc::default(),
    })
}

/// The settings of the step from the encoder's vectors to an answer, before its weights are read.
enum Output<'a> {
    Labels(LabelConfig<'a>),
    Vector(Pooling, LayerConfigs),
}

/// Logs a warning, unless the process has logged the same one before: a model is loaded once for
/// each replica, and again after a failure.
fn log_once(warning: &str) {
    static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if LOGGED.lock().insert(warning.to_owned()) {
        warn!("{warning}");
    }
}

/// Refuses a directory with an adapter, which transformers would merge with the weights.
fn check_adapter(directory: &Path) -> Result<(), Error> {
    let Some(file) = JsonFile::read_if_there(&directory.join("adapter_config.json"))? else {
        return Ok(());
    };
    let kind = file.text_or("peft_type", "an adapter")?;
    let supported = "a model with which the adapter has been merged (`merge_and_unload` of peft)";
    Err(file.unsupported("peft_type", kind, supported))
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

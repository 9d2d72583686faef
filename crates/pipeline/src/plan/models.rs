//! Resolves models.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use forebay_model::{
    ClassificationOptions, DeviceChoice, EmbeddingOptions, HubModel, TextModelOptions, is_hub_name,
};
use toml::Spanned;
use toml::de::DeValue;

use super::{ModelPlan, TextPlan};
use crate::diagnostic::{ConfigError, Problem};
use crate::file::{self, AtMost, Count, Entry, ModelTable};
use crate::registry::Registry;

pub(super) fn model(entry: Entry<'_>, registry: &Registry) -> Result<ModelPlan, Problem> {
    let settings = entry.settings;
    let span = settings.span();
    let custom = |kind: &str| registry.has_model(kind);
    match settings.into_inner() {
        // `[model.ANY.KIND]`: the table's only key is the name under which a model is registered.
        DeValue::Table(table) if table.keys().any(|key| custom(key.get_ref())) => {
            let mut entries = table.into_iter();
            let (Some((kind, settings)), None) = (entries.next(), entries.next()) else {
                return Err(Problem::new(
                    "a model's table must have exactly one kind of model",
                    span,
                ));
            };
            let model = registry.parse_model(kind.get_ref(), settings);
            model
                .unwrap_or_else(|| Err(Problem::new("there is no such model", span)))
                .map(ModelPlan::Custom)
        }
        settings => text(file::value(Spanned::new(span.clone(), settings))?, span),
    }
}

fn text(table: ModelTable, span: Range<usize>) -> Result<ModelPlan, Problem> {
    let (path, hub) = location(table.path, table.hub, table.revision, &span)?;
    let mut options = TextModelOptions::new(path);
    options.task = table.task.as_ref().map(named).transpose()?;
    options.max_tokens = table.max_tokens.map(Count::get);
    options.threads = table.threads.map(AtMost::get);
    options.truncate = table.truncate;
    options.prompt = table.prompt;
    if let Some(precision) = table.precision {
        options.precision = named(&precision)?;
    }
    options.embedding = EmbeddingOptions {
        pooling: table.pooling.as_ref().map(named).transpose()?,
        normalize: table.normalize,
        dimensions: table.dimensions.map(Count::get),
    };
    options.classification = ClassificationOptions {
        top_k: table.top_k.map(Count::get),
        scores: table.scores.as_ref().map(named).transpose()?,
    };
    let devices = devices(table.device.as_ref(), table.devices)?;
    options.device = devices[0];
    Ok(ModelPlan::Text(Box::new(TextPlan {
        options,
        hub,
        devices,
        replicas: table.replicas.get(),
    })))
}

/// Checks that the files of the model `name` can be read: `config.json`, or `modules.json`, which
/// names the folder with the `config.json`.
pub(super) fn check_directory(name: &str, directory: &Path) -> Result<(), ConfigError> {
    let open = |file| File::open(directory.join(file)).and_then(|file| file.metadata());
    let source = match open("config.json").or_else(|error| open("modules.json").map_err(|_| error))
    {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let name = name.to_owned();
    let path = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let is_missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    Err(match source.filter(|error| !is_missing(error)) {
        Some(source) => ConfigError::UnreadableModel { name, path, source },
        None => ConfigError::NoModel { name, path },
    })
}

/// Returns the model's directory, or its name on the Hub.
fn location(
    path: Option<Spanned<PathBuf>>,
    hub: Option<Spanned<String>>,
    revision: Option<Spanned<String>>,
    span: &Range<usize>,
) -> Result<(PathBuf, Option<HubModel>), Problem> {
    match (path, hub, revision) {
        (Some(path), None, None) if path.get_ref().as_os_str().is_empty() => {
            Err(Problem::new("the model's path is empty", path.span()))
        }
        (Some(path), None, None) => Ok((path.into_inner(), None)),
        (None, Some(hub), _) if !is_hub_name(hub.get_ref()) => {
            let problem = Problem::new("this is not the name of a model on the Hub", hub.span());
            Err(problem.help("write it as `owner/model`, without the address of the Hub"))
        }
        (None, Some(_), Some(revision)) if revision.get_ref().is_empty() => {
            Err(Problem::new("the revision is empty", revision.span()))
        }
        (None, Some(hub), revision) => {
            let mut model = HubModel::new(hub.into_inner());
            if let Some(revision) = revision {
                model.revision = revision.into_inner();
            }
            Ok((PathBuf::new(), Some(model)))
        }
        (Some(_), Some(hub), _) => {
            let problem = Problem::new("the model has a `path` already", hub.span());
            Err(problem.help("leave out `path`, or `hub`"))
        }
        (_, None, Some(revision)) => Err(Problem::new("`revision` needs `hub`", revision.span())),
        (None, None, None) => {
            let problem = Problem::new("the model has neither a `path` nor a `hub`", span.clone());
            Err(problem.help("set `path`, a directory, or `hub`, a name on the Hugging Face Hub"))
        }
    }
}

/// Returns the model's devices, at least one.
fn devices(
    one: Option<&Spanned<String>>,
    several: Option<Spanned<Vec<Spanned<String>>>>,
) -> Result<Vec<DeviceChoice>, Problem> {
    match (one, several) {
        (None, None) => Ok(vec![DeviceChoice::Auto]),
        (Some(device), None) => Ok(vec![named(device)?]),
        (Some(_), Some(several)) => {
            let problem = Problem::new("`device` and `devices` exclude each other", several.span());
            Err(problem.help("leave one of them out"))
        }
        (None, Some(several)) if several.get_ref().is_empty() => {
            let problem = Problem::new("the model needs a device", several.span());
            Err(problem.help("name some, such as `[\"gpu:0\", \"gpu:1\"]`"))
        }
        (None, Some(several)) => several.into_inner().iter().map(named).collect(),
    }
}

/// Parses a value from its name.
fn named<T: FromStr<Err: std::fmt::Display>>(text: &Spanned<String>) -> Result<T, Problem> {
    text.get_ref().parse().map_err(|error| Problem::new(error, text.span()))
}

//! `Plan`: the validated form of a pipeline file. Everything that can be checked without connecting
//! has been checked.

mod commits;
mod dead_letters;
mod delivery;
mod ends;
mod exactly_once;
mod inputs;
mod models;
mod overrides;
mod resolve;
mod shapes;
mod steps;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_kafka::{ReplyTopics, SinkConfig, SourceConfig};
use forebay_model::{DeviceChoice, HubModel, TextModelOptions};
use toml::de::DeTable;

use crate::deadline::Deadlines;
use crate::diagnostic::{ConfigError, Problem};
use crate::expand::{self, Lookup};
use crate::file;
use crate::registry::{LoadModel, Registry};
use crate::secrets::Secrets;
use crate::sink::AnySink;
use crate::source::AnySource;

pub use dead_letters::DeadLetters;
pub(crate) use delivery::{OnFailure, Policy, STOP};
pub(crate) use steps::{Input, StepKind, StepPlan};
pub(crate) use wiring::{NodeRef, Output, Port};

/// A validated pipeline: every step gets the input that it takes, every name is defined, and every
/// value is in range.
#[derive(Clone)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) order_of_answers: file::Order,
    pub(crate) on_failure: OnFailure,
    /// The longest time that a stopped pipeline takes to answer the requests in flight.
    pub(crate) shutdown_timeout: Duration,
    /// The time after which a run ends by itself.
    pub(crate) max_lifetime: Option<Duration>,
    /// The sources in the order of the file, and after them those of committed offsets.
    pub(crate) sources: Vec<AnySource>,
    /// The steps in the order of the file.
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) sinks: Vec<SinkPlan>,
    pub(crate) models: BTreeMap<String, ModelPlan>,
    /// The indices of `steps` in the order in which the steps are assembled. Each step comes after
    /// the steps that it takes from. A step that takes from a loop also comes after the loop's
    /// `feedback` step.
    pub(crate) order: Vec<usize>,
    pub(crate) deadlines: Deadlines,
    /// The values of the file's variables.
    pub(crate) secrets: Secrets,
}

/// A sink, and the port that it takes from.
#[derive(Clone)]
pub(crate) struct SinkPlan {
    pub(crate) from: Port,
    pub(crate) sink: AnySink,
    /// Whether it takes the offsets that Kafka sources commit, and no answers.
    pub(crate) of_commits: bool,
}

/// A model, and its settings.
#[derive(Clone)]
pub(crate) enum ModelPlan {
    Text(Box<TextPlan>),
    Custom(Arc<dyn LoadModel>),
}

/// A text model, and the devices that it runs on.
#[derive(Clone)]
pub(crate) struct TextPlan {
    /// The model's options. If the model comes from the Hub, its path is set after the download.
    pub(crate) options: TextModelOptions,
    pub(crate) hub: Option<HubModel>,
    pub(crate) devices: Vec<DeviceChoice>,
    /// The number of replicas on each device.
    pub(crate) replicas: NonZeroUsize,
}

impl Plan {
    /// Reads and validates the file at `path`, with the process's environment for `${NAME}`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] with the file, the line, and how to correct it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, &Registry::new())
    }

    /// Does the same as [`load`](Self::load), with the user's own operators, sources, sinks and
    /// models.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] with the file, the line, and how to correct it.
    pub fn load_with(path: &Path, registry: &Registry) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse_with(path, &text, &|name| std::env::var(name).ok(), registry)
    }

    /// Validates the text of a pipeline file. `path` is the file's name in error messages; `lookup`
    /// returns the values of variables.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] with the line, and how to correct it.
    pub fn parse(path: &Path, text: &str, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Self::parse_with(path, text, lookup, &Registry::new())
    }

    /// Does the same as [`parse`](Self::parse), with the user's own operators, sources, sinks and
    /// models.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] with the line, and how to correct it.
    pub fn parse_with(
        path: &Path,
        text: &str,
        lookup: Lookup<'_>,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        parse(text, lookup, registry).map_err(|problem| problem.in_file(path, text))
    }

    /// Returns the pipeline's name, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that the models' directories exist. Loading the plan does not check them, because
    /// the directories can change while the file stays the same.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::NoModel`] or [`ConfigError::UnreadableModel`] for the first directory
    /// without a `config.json` that can be read.
    pub fn check_models(&self) -> Result<(), ConfigError> {
        for (name, model) in &self.models {
            if let ModelPlan::Text(model) = model
                && model.hub.is_none()
            {
                models::check_directory(name, &model.options.path)?;
            }
        }
        Ok(())
    }

    /// Returns the Kafka sources.
    pub fn kafka_sources(&self) -> impl Iterator<Item = &SourceConfig> {
        self.sources.iter().filter_map(AnySource::kafka)
    }

    /// Returns the Kafka sinks.
    pub fn kafka_sinks(&self) -> impl Iterator<Item = &SinkConfig> {
        self.sinks.iter().filter_map(|sink| sink.sink.kafka())
    }

    /// Returns the Kafka topics that the pipeline reads or writes, including the topic for dead
    /// letters and the listed topics that requests may name for their replies.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        let read = self.kafka_sources().map(|source| source.topic.as_str());
        let written = self.kafka_sinks().map(|sink| sink.topic.as_str());
        let named = self.kafka_sinks().flat_map(|sink| match &sink.reply_to.topics {
            ReplyTopics::Listed(topics) => topics.iter().map(String::as_str).collect(),
            ReplyTopics::Any => Vec::new(),
        });
        let letters = match &self.on_failure.policy {
            Policy::DeadLetter { sink, .. } => Some(sink.topic.as_str()),
            Policy::Reply | Policy::Stop => None,
        };
        let topics: BTreeSet<&str> = read.chain(written).chain(named).chain(letters).collect();
        topics.into_iter().collect()
    }

    /// Returns whether a source reads lines to their end, from a file or standard input. Such a
    /// pipeline is a job that ends; one that follows a file is a service.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.sources.iter().any(|source| source.end().starts_over())
    }

    /// Returns the number of sinks except `drop`.
    #[must_use]
    pub fn kept_by(&self) -> usize {
        self.sinks.iter().filter(|sink| !sink.sink.drops()).count()
    }
}

fn parse(text: &str, lookup: Lookup<'_>, registry: &Registry) -> Result<Plan, Problem> {
    let mut parsed = DeTable::parse(text).map_err(|error| Problem::syntax(&error, text))?;
    let expanded = Rc::new(expand::expand(parsed.get_mut(), lookup)?);
    // A new variable, because it may get values of `expanded`, which live shorter than `text`.
    let mut table = parsed;
    loop {
        let read = || resolve::resolve(file::read(table.clone())?, registry);
        let problem = match expanded.while_reading(read) {
            Ok(plan) => return Ok(Plan { secrets: expanded.secrets(), ..plan }),
            Err(problem) => problem,
        };
        // A variable's value is text. If the file needs a number or a boolean there, the value is
        // read again as such.
        let is_text = problem.message.starts_with("invalid type: string");
        let span = problem.span.clone().filter(|_| is_text);
        if !span.is_some_and(|span| expanded.parse_at(&span, table.get_mut())) {
            return Err(problem.hiding(&expanded.secrets(), text));
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hide = |title: String| self.secrets.hide(&title, "");
        let titles: Vec<_> = self.sources.iter().map(|source| hide(source.end().title())).collect();
        let steps: Vec<_> = self.steps.iter().map(|step| &step.name).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|sink| hide(sink.sink.end().title())).collect();
        f.debug_struct("Plan")
            .field("name", &hide(self.name.clone()))
            .field("sources", &titles)
            .field("steps", &steps)
            .field("sinks", &sinks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod habits;
#[cfg(test)]
mod tests;

//! `Plan`: the validated form of a pipeline file. Everything that can be checked without connecting
//! has been checked.

mod delivery;
mod ends;
mod models;
mod replay;
mod resolve;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_kafka::{EmbeddedBroker, ReplyTopics, SinkConfig, SourceConfig};
use forebay_model::{DeviceChoice, HubModel, TextModelOptions};
use toml::de::DeTable;

use crate::deadline::Deadlines;
use crate::diagnostic::{ConfigError, Problem};
use crate::expand::{self, Lookup};
use crate::file;
use crate::registry::{CustomModel, CustomSink, CustomSource, Registry};
use crate::step::Operator;

pub(crate) use delivery::{OnFailure, Policy, STOP};
pub(crate) use wiring::{Loop, NodeRef, Output, Port};

/// A validated pipeline: every step gets the input that it takes, every name is defined, and every
/// value is in range.
#[derive(Clone)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) order_of_answers: file::Order,
    pub(crate) on_failure: OnFailure,
    /// The longest time that a stopped pipeline takes to answer the requests in flight.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) sources: Vec<SourcePlan>,
    /// The steps in the order of the file.
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) sinks: Vec<SinkPlan>,
    pub(crate) models: BTreeMap<String, ModelPlan>,
    /// The indices of `steps` in the order in which the steps are assembled. Each step comes after
    /// the steps that it takes from. A step that takes from a loop also comes after the loop's
    /// `feedback` step.
    pub(crate) order: Vec<usize>,
    pub(crate) loops: Vec<Loop>,
    pub(crate) deadlines: Deadlines,
}

/// A source.
#[derive(Clone)]
pub(crate) enum SourcePlan {
    /// A Kafka topic, read as a member of a consumer group.
    Kafka(SourceConfig),
    /// Standard input, one JSON value a line.
    Stdin,
    /// A file, one JSON value a line.
    File { path: PathBuf, follow: bool },
    /// Numbers counted at a fixed interval.
    Interval { every: Duration, count: Option<NonZeroU64> },
    /// Requests over HTTP.
    Http(forebay_http::Config),
    /// Registered by the user.
    Custom { kind: String, open: CustomSource },
}

/// A step: one operator, and the ports that it takes from. A port is an output of a source or of
/// another step.
#[derive(Clone)]
pub(crate) struct StepPlan {
    /// The name in graphs, failures and logs.
    pub(crate) name: String,
    pub(crate) operator: Operator,
    /// The ports that it takes from, each with its name in the file.
    pub(crate) from: Vec<(Port, String)>,
    /// The port whose values make a `collect` emit its batch.
    pub(crate) flush: Option<Port>,
}

/// A sink, and the port that it takes from.
#[derive(Clone)]
pub(crate) struct SinkPlan {
    pub(crate) from: Port,
    pub(crate) end: SinkEnd,
}

#[derive(Clone)]
pub(crate) enum SinkEnd {
    /// A Kafka topic. Replies carry the keys of their requests.
    Kafka(SinkConfig),
    /// Standard output, one JSON value a line.
    Stdout,
    /// A file, one JSON value a line.
    File(PathBuf),
    /// The responses to the requests of the HTTP source.
    Http,
    /// Discards its answers.
    Drop,
    /// Registered by the user.
    Custom { kind: String, open: CustomSink },
}

/// A model, and its settings.
#[derive(Clone)]
pub(crate) enum ModelPlan {
    Text(Box<TextPlan>),
    Custom(CustomModel),
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
    /// Returns [`ConfigError::NoModel`] for the first directory without a `config.json`.
    pub fn check_models(&self) -> Result<(), ConfigError> {
        for (name, model) in &self.models {
            if let ModelPlan::Text(model) = model
                && model.hub.is_none()
                && !model.options.path.join("config.json").is_file()
            {
                let path = std::path::absolute(&model.options.path)
                    .unwrap_or_else(|_| model.options.path.clone());
                return Err(ConfigError::NoModel { name: name.clone(), path });
            }
        }
        Ok(())
    }

    /// Replaces the source by standard input, and every sink except `drop` by standard output.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Stdio`] if the plan has several sources, because standard input can
    /// be read by one only.
    pub fn on_stdio(mut self) -> Result<Self, ConfigError> {
        if self.sources.len() > 1 {
            return Err(ConfigError::Stdio { sources: self.sources.len() });
        }
        self.sources.fill(SourcePlan::Stdin);
        // Each line that fails gets an error reply in the output, because there is no topic for
        // dead letters.
        self.on_failure.policy = Policy::Reply;
        for sink in &mut self.sinks {
            if !matches!(sink.end, SinkEnd::Drop) {
                sink.end = SinkEnd::Stdout;
            }
        }
        Ok(self)
    }

    /// Replaces the brokers of every Kafka source and sink, and of the dead letters.
    #[must_use]
    pub fn at_brokers(mut self, brokers: &str) -> Self {
        for source in self.kafka_sources_mut() {
            brokers.clone_into(&mut source.brokers);
        }
        for sink in &mut self.sinks {
            if let SinkEnd::Kafka(sink) = &mut sink.end {
                brokers.clone_into(&mut sink.brokers);
            }
        }
        if let Policy::DeadLetter { sink, .. } = &mut self.on_failure.policy {
            brokers.clone_into(&mut sink.brokers);
        }
        self
    }

    /// Replaces the brokers of every Kafka source and sink by an embedded broker.
    #[must_use]
    pub fn at_embedded_broker(self, broker: &EmbeddedBroker) -> Self {
        let mut plan = self.at_brokers(&broker.bootstrap_servers());
        for source in plan.kafka_sources_mut() {
            source.options.extend(EmbeddedBroker::consumer_options());
        }
        plan
    }

    /// Returns the Kafka sources.
    pub fn kafka_sources(&self) -> impl Iterator<Item = &SourceConfig> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::Kafka(config) => Some(config),
            _ => None,
        })
    }

    /// Returns the Kafka sinks.
    pub fn kafka_sinks(&self) -> impl Iterator<Item = &SinkConfig> {
        self.sinks.iter().filter_map(|sink| match &sink.end {
            SinkEnd::Kafka(config) => Some(config),
            _ => None,
        })
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
        let ends = |source: &SourcePlan| {
            matches!(source, SourcePlan::Stdin | SourcePlan::File { follow: false, .. })
        };
        self.sources.iter().any(ends)
    }

    /// Returns the number of sinks except `drop`.
    #[must_use]
    pub fn kept_by(&self) -> usize {
        self.sinks.iter().filter(|sink| !matches!(sink.end, SinkEnd::Drop)).count()
    }

    fn kafka_sources_mut(&mut self) -> impl Iterator<Item = &mut SourceConfig> {
        self.sources.iter_mut().filter_map(|source| match source {
            SourcePlan::Kafka(config) => Some(config),
            _ => None,
        })
    }
}

impl SourcePlan {
    /// Returns whether inputs can have headers, which deadlines are read from.
    pub(crate) fn has_headers(&self) -> bool {
        match self {
            Self::Kafka(_) | Self::Http(_) | Self::Custom { .. } => true,
            Self::Stdin | Self::File { .. } | Self::Interval { .. } => false,
        }
    }

    /// Returns the name in graphs and logs.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Kafka(config) => format!("kafka: {}", config.topic),
            Self::Stdin => "stdin".to_owned(),
            Self::File { path, .. } => format!("file: {}", path.display()),
            Self::Interval { every, .. } => {
                format!("interval: {}", humantime_serde::re::humantime::format_duration(*every))
            }
            Self::Http(config) => format!("http: {}", config.listen),
            Self::Custom { kind, .. } => kind.clone(),
        }
    }
}

impl SinkEnd {
    /// Returns the name in graphs and logs.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Kafka(config) => format!("kafka: {}", config.topic),
            Self::Stdout => "stdout".to_owned(),
            Self::File(path) => format!("file: {}", path.display()),
            Self::Http => "http".to_owned(),
            Self::Drop => "drop".to_owned(),
            Self::Custom { kind, .. } => kind.clone(),
        }
    }
}

fn parse(text: &str, lookup: Lookup<'_>, registry: &Registry) -> Result<Plan, Problem> {
    let mut table = DeTable::parse(text)?;
    expand::expand(table.get_mut(), lookup)?;
    resolve::resolve(file::read(table)?, registry)
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<_> = self.sources.iter().map(SourcePlan::title).collect();
        let steps: Vec<_> = self.steps.iter().map(|step| &step.name).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|sink| sink.end.title()).collect();
        f.debug_struct("Plan")
            .field("name", &self.name)
            .field("sources", &titles)
            .field("steps", &steps)
            .field("sinks", &sinks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

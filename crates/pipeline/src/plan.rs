//! `Plan`: a pipeline file in which everything that can be checked without connecting has been checked.

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

pub(crate) use delivery::{OnFailure, Policy};
pub(crate) use wiring::{Loop, NodeRef, Output, Port};

/// A validated pipeline. Steps fit their neighbours, every name is defined, every value is in range.
#[derive(Clone)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) order_of_answers: file::Order,
    pub(crate) on_failure: OnFailure,
    /// Longest that a stopped pipeline takes to answer what is in flight.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) sources: Vec<SourcePlan>,
    /// As the file has them.
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) sinks: Vec<SinkPlan>,
    pub(crate) models: BTreeMap<String, ModelPlan>,
    /// The steps' numbers, each after those that it takes its values from; what leaves a loop after its feedback.
    pub(crate) order: Vec<usize>,
    pub(crate) loops: Vec<Loop>,
    pub(crate) deadlines: Deadlines,
}

/// Where values come from.
#[derive(Clone)]
pub(crate) enum SourcePlan {
    /// A topic, read as a member of a consumer group.
    Kafka(SourceConfig),
    /// Standard input, one JSON value a line.
    Stdin,
    /// A file, one JSON value a line.
    File { path: PathBuf, follow: bool },
    /// The numbers of a beat.
    Interval { every: Duration, count: Option<NonZeroU64> },
    /// Requests over HTTP.
    Http(forebay_http::Config),
    /// One of the user's own.
    Custom { kind: String, open: CustomSource },
}

/// One operator, and where its values come from.
#[derive(Clone)]
pub(crate) struct StepPlan {
    /// What graphs, failures and logs call it.
    pub(crate) name: String,
    pub(crate) operator: Operator,
    /// Where its values come from, and what the file calls that.
    pub(crate) from: Vec<(Port, String)>,
    /// For `collect`: where its signals come from.
    pub(crate) flush: Option<Port>,
}

/// Where results go.
#[derive(Clone)]
pub(crate) struct SinkPlan {
    pub(crate) from: Port,
    pub(crate) end: SinkEnd,
}

#[derive(Clone)]
pub(crate) enum SinkEnd {
    /// A topic, in which replies carry their requests' keys.
    Kafka(SinkConfig),
    /// Standard output, one JSON value a line.
    Stdout,
    /// A file, one JSON value a line.
    File(PathBuf),
    /// The responses to the requests of the HTTP source.
    Http,
    /// Nowhere.
    Drop,
    /// One of the user's own.
    Custom { kind: String, open: CustomSink },
}

/// A model, and what its steps will ask of it.
#[derive(Clone)]
pub(crate) enum ModelPlan {
    Text(Box<TextPlan>),
    Custom(CustomModel),
}

/// A text model, and where it runs.
#[derive(Clone)]
pub(crate) struct TextPlan {
    /// Its path is of no meaning where the model comes from the Hub.
    pub(crate) options: TextModelOptions,
    pub(crate) hub: Option<HubModel>,
    pub(crate) devices: Vec<DeviceChoice>,
    /// How many on each device.
    pub(crate) replicas: NonZeroUsize,
}

impl Plan {
    /// Reads and checks the file at `path`, with the process's environment for `${NAME}`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the file, the line, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, &Registry::new())
    }

    /// [`load`](Self::load), with operators, sources, sinks and models of one's own.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the file, the line, and what would be right.
    pub fn load_with(path: &Path, registry: &Registry) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse_with(path, &text, &|name| std::env::var(name).ok(), registry)
    }

    /// Checks a pipeline file's text; `path` is what errors call it, `lookup` finds variables.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the line and what would be right.
    pub fn parse(path: &Path, text: &str, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Self::parse_with(path, text, lookup, &Registry::new())
    }

    /// [`parse`](Self::parse), with operators, sources, sinks and models of one's own.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the line and what would be right.
    pub fn parse_with(
        path: &Path,
        text: &str,
        lookup: Lookup<'_>,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        parse(text, lookup, registry).map_err(|problem| problem.in_file(path, text))
    }

    /// The pipeline's name, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks what may change without the file changing: that the models' directories are there.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoModel`] for the first that is not.
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

    /// The same pipeline with standard input for its source, and standard output for every sink that does not drop.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Stdio`] where there are several sources: standard input can be read once.
    pub fn on_stdio(mut self) -> Result<Self, ConfigError> {
        if self.sources.len() > 1 {
            return Err(ConfigError::Stdio { sources: self.sources.len() });
        }
        self.sources.fill(SourcePlan::Stdin);
        // Lines are answered in their places; there is no topic to keep those that fail.
        self.on_failure.policy = Policy::Reply;
        for sink in &mut self.sinks {
            if !matches!(sink.end, SinkEnd::Drop) {
                sink.end = SinkEnd::Stdout;
            }
        }
        Ok(self)
    }

    /// The same pipeline with every Kafka end at other brokers.
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

    /// The same pipeline with every Kafka end at an embedded broker.
    #[must_use]
    pub fn at_embedded_broker(self, broker: &EmbeddedBroker) -> Self {
        let mut plan = self.at_brokers(&broker.bootstrap_servers());
        for source in plan.kafka_sources_mut() {
            source.options.extend(EmbeddedBroker::consumer_options());
        }
        plan
    }

    /// What it reads from Kafka.
    pub fn kafka_sources(&self) -> impl Iterator<Item = &SourceConfig> {
        self.sources.iter().filter_map(|source| match source {
            SourcePlan::Kafka(config) => Some(config),
            _ => None,
        })
    }

    /// What it writes to Kafka.
    pub fn kafka_sinks(&self) -> impl Iterator<Item = &SinkConfig> {
        self.sinks.iter().filter_map(|sink| match &sink.end {
            SinkEnd::Kafka(config) => Some(config),
            _ => None,
        })
    }

    /// The Kafka topics that the pipeline reads or writes, those among them that requests may name for their replies.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        let read = self.kafka_sources().map(|source| source.topic.as_str());
        let written = self.kafka_sinks().map(|sink| sink.topic.as_str());
        let named = self.kafka_sinks().flat_map(|sink| match &sink.reply_to.topics {
            ReplyTopics::Listed(topics) => topics.iter().map(String::as_str).collect(),
            ReplyTopics::Any => Vec::new(),
        });
        let topics: BTreeSet<&str> = read.chain(written).chain(named).collect();
        topics.into_iter().collect()
    }

    /// Whether it reads lines, of a file or of standard input: a job that ends, rather than a service.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        let lines =
            |source: &SourcePlan| matches!(source, SourcePlan::Stdin | SourcePlan::File { .. });
        self.sources.iter().any(lines)
    }

    /// How many sinks it has that keep what they get.
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
    /// Whether its inputs have headers, and with them perhaps deadlines.
    pub(crate) fn has_headers(&self) -> bool {
        match self {
            Self::Kafka(_) | Self::Http(_) | Self::Custom { .. } => true,
            Self::Stdin | Self::File { .. } | Self::Interval { .. } => false,
        }
    }

    /// As graphs and logs show it.
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
    /// As graphs and logs show it.
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

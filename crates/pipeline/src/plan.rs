//! `Plan`: a pipeline file in which everything that can be checked without connecting has been checked.

mod resolve;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_kafka::{EmbeddedBroker, SinkConfig, SourceConfig};
use forebay_model::TextModelOptions;
use forebay_stream::Graph;
use toml::Deserializer;
use toml::de::DeTable;

use crate::diagnostic::{ConfigError, Problem};
use crate::expand::{self, Lookup};
use crate::file::PipelineFile;
use crate::{assemble, task};

/// A validated pipeline. Steps fit their neighbours, every model that is named is defined, every value is in range.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The pipeline's name, for logs.
    pub name: String,
    /// Where requests come from.
    pub source: SourcePlan,
    /// What happens to them, in order.
    pub steps: Vec<StepPlan>,
    /// Where replies go.
    pub sink: SinkPlan,
    /// The models that steps name.
    pub models: BTreeMap<String, ModelPlan>,
}

/// Where requests come from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SourcePlan {
    /// A topic, read as a member of a consumer group.
    Kafka(SourceConfig),
    /// Standard input, one JSON value a line.
    Stdin,
    /// A file, one JSON value a line.
    File(PathBuf),
}

/// Where replies go.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SinkPlan {
    /// A topic, in which replies carry their requests' keys.
    Kafka(SinkConfig),
    /// Standard output, one JSON value a line.
    Stdout,
    /// A file, one JSON value a line.
    File(PathBuf),
}

/// One operator.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StepPlan {
    /// [`Flow::timed_window`](forebay_stream::Flow::timed_window).
    TimedWindow {
        /// The beat; not zero.
        interval: Duration,
        /// Most elements in one window.
        max_size: NonZeroUsize,
    },
    /// [`Flow::partition`](forebay_stream::Flow::partition).
    Partition {
        /// Elements in one batch.
        size: NonZeroUsize,
        /// Longest wait of a batch's first element.
        timeout: Option<Duration>,
    },
    /// [`Batches::flatten`](forebay_stream::Batches::flatten).
    Flatten,
    /// [`Batches::map_batch`](forebay_stream::Batches::map_batch) with a model.
    MapBatch {
        /// A key of [`Plan::models`].
        model: String,
    },
}

/// A model, and what its steps will ask of it.
pub type ModelPlan = TextModelOptions;

impl Plan {
    /// Reads and checks the file at `path`, with the process's environment for `${NAME}`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the file, the line, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(path, &text, &|name| std::env::var(name).ok())
    }

    /// Checks a pipeline file's text; `path` is what errors call it, `lookup` finds variables.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the line and what would be right.
    pub fn parse(path: &Path, text: &str, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        parse(text, lookup).map_err(|problem| problem.in_file(path, text))
    }

    /// Checks what may change without the file changing: that the models' directories are there.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoModel`] for the first that is not.
    pub fn check_models(&self) -> Result<(), ConfigError> {
        for (name, model) in &self.models {
            if !model.path.join("config.json").is_file() {
                let path = std::path::absolute(&model.path).unwrap_or_else(|_| model.path.clone());
                return Err(ConfigError::NoModel { name: name.clone(), path });
            }
        }
        Ok(())
    }

    /// The same pipeline between standard input and standard output.
    #[must_use]
    pub fn on_stdio(mut self) -> Self {
        self.source = SourcePlan::Stdin;
        self.sink = SinkPlan::Stdout;
        self
    }

    /// The same pipeline with every Kafka end at other brokers.
    #[must_use]
    pub fn at_brokers(mut self, brokers: &str) -> Self {
        if let SourcePlan::Kafka(source) = &mut self.source {
            brokers.clone_into(&mut source.brokers);
        }
        if let SinkPlan::Kafka(sink) = &mut self.sink {
            brokers.clone_into(&mut sink.brokers);
        }
        self
    }

    /// The same pipeline with every Kafka end at an embedded broker.
    #[must_use]
    pub fn at_embedded_broker(self, broker: &EmbeddedBroker) -> Self {
        let mut plan = self.at_brokers(&broker.bootstrap_servers());
        if let SourcePlan::Kafka(source) = &mut plan.source {
            source.options.extend(EmbeddedBroker::consumer_options());
        }
        plan
    }

    /// The Kafka topics that the pipeline reads or writes.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        let mut topics = Vec::new();
        if let SourcePlan::Kafka(source) = &self.source {
            topics.push(source.topic.as_str());
        }
        if let SinkPlan::Kafka(sink) = &self.sink {
            topics.push(sink.topic.as_str());
        }
        topics
    }

    /// What the pipeline is made of, without connecting to or loading anything.
    #[must_use]
    pub fn graph(&self) -> Graph {
        assemble::draw(self, &task::stub())
    }
}

fn parse(text: &str, lookup: Lookup<'_>) -> Result<Plan, Problem> {
    let mut table = DeTable::parse(text)?;
    expand::expand(table.get_mut(), lookup)?;
    let file: PipelineFile = serde::Deserialize::deserialize(Deserializer::from(table))?;
    resolve::resolve(file)
}

#[cfg(test)]
mod tests;

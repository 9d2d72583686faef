//! From the file's syntax to a plan in which every invariant holds.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use forebay_kafka::{SinkConfig, SourceConfig};
use forebay_model::TextModelOptions;
use toml::Spanned;

use super::{ModelPlan, Plan, SinkPlan, SourcePlan, StepPlan};
use crate::diagnostic::Problem;
use crate::file::{
    KafkaSink, KafkaSource, MapBatch, ModelTable, Partition, PipelineFile, SinkTable, SourceTable,
    StepTable, TimedWindow,
};

pub(super) fn resolve(file: PipelineFile) -> Result<Plan, Problem> {
    let source = source(file.source)?;
    let sink = sink(file.sink, &source)?;
    let mut models = file
        .model
        .into_iter()
        .map(|(name, table)| Ok((name, model(table.into_inner())?)))
        .collect::<Result<_, Problem>>()?;
    let steps = Steps { models: &mut models, in_flight: in_flight(&source), batch: None, kept: 0 }
        .resolve(file.step)?;
    Ok(Plan {
        name: file.name.unwrap_or_else(|| "forebay".to_owned()),
        source,
        steps,
        sink,
        models,
    })
}

fn source(table: Spanned<SourceTable>) -> Result<SourcePlan, Problem> {
    let span = table.span();
    Ok(match table.into_inner() {
        SourceTable::Kafka(table) => SourcePlan::Kafka(kafka_source(table, span)?),
        SourceTable::Stdin(_) => SourcePlan::Stdin,
        SourceTable::File(file) => SourcePlan::File(file.path),
    })
}

fn kafka_source(table: KafkaSource, span: Range<usize>) -> Result<SourceConfig, Problem> {
    let mut config = SourceConfig::new(table.brokers, table.topic, table.group);
    config.max_in_flight = table.max_in_flight.unwrap_or(config.max_in_flight);
    config.commit_interval = table.commit_interval.unwrap_or(config.commit_interval);
    config.drain_timeout = table.drain_timeout.unwrap_or(config.drain_timeout);
    config.options = table.options;
    config.validate().map_err(|error| Problem::new(chain(&error), span))?;
    Ok(config)
}

fn sink(table: Spanned<SinkTable>, source: &SourcePlan) -> Result<SinkPlan, Problem> {
    let span = table.span();
    Ok(match table.into_inner() {
        SinkTable::Kafka(table) => SinkPlan::Kafka(kafka_sink(table, span, source)?),
        SinkTable::Stdout(_) => SinkPlan::Stdout,
        SinkTable::File(file) => SinkPlan::File(output_path(file.path, span, source)?),
    })
}

/// Writing a file empties it first, so it must not be the one that is read.
fn output_path(path: PathBuf, span: Range<usize>, source: &SourcePlan) -> Result<PathBuf, Problem> {
    let same = |read: &Path| match (read.canonicalize(), path.canonicalize()) {
        (Ok(read), Ok(written)) => read == written,
        _ => read == path,
    };
    match source {
        SourcePlan::File(read) if same(read) => {
            Err(Problem::new("the sink writes the file that the source reads", span))
        }
        _ => Ok(path),
    }
}

fn kafka_sink(
    table: KafkaSink,
    span: Range<usize>,
    source: &SourcePlan,
) -> Result<SinkConfig, Problem> {
    let brokers = match (table.brokers, source) {
        (Some(brokers), _) => brokers,
        (None, SourcePlan::Kafka(source)) => source.brokers.clone(),
        (None, _) => {
            let problem = Problem::new("missing field `brokers`", span);
            return Err(
                problem.help("`brokers` may be left out only where the source is Kafka too")
            );
        }
    };
    let mut config = SinkConfig::new(brokers, table.topic);
    config.delivery_timeout = table.delivery_timeout.unwrap_or(config.delivery_timeout);
    config.options = table.options;
    if let SourcePlan::Kafka(source) = source
        && source.brokers == config.brokers
        && source.topic == config.topic
    {
        let problem = Problem::new("the sink writes the topic that the source reads", span);
        return Err(
            problem.help("replies would be read as requests; give them a topic of their own")
        );
    }
    config.validate().map_err(|error| Problem::new(chain(&error), span))?;
    Ok(config)
}

fn model(table: ModelTable) -> Result<ModelPlan, Problem> {
    let span = table.path.span();
    let path = table.path.into_inner();
    if path.as_os_str().is_empty() {
        return Err(Problem::new("the model's path is empty", span));
    }
    let mut options = TextModelOptions::new(path);
    if let Some(device) = table.device {
        options.device = named(&device)?;
    }
    options.task = table.task.as_ref().map(named).transpose()?;
    options.max_tokens = table.max_tokens;
    options.truncate = table.truncate;
    Ok(options)
}

/// A value that is written as its name.
fn named<T: FromStr<Err: std::fmt::Display>>(text: &Spanned<String>) -> Result<T, Problem> {
    text.get_ref().parse().map_err(|error| Problem::new(error, text.span()))
}

/// Most records that the source lets be unresolved, where it has such a bound.
fn in_flight(source: &SourcePlan) -> Option<NonZeroUsize> {
    match source {
        SourcePlan::Kafka(config) => Some(config.max_in_flight),
        SourcePlan::Stdin | SourcePlan::File(_) => None,
    }
}

/// Walks the steps with what flows between them: single elements, or batches of at most so many.
struct Steps<'a> {
    models: &'a mut BTreeMap<String, ModelPlan>,
    in_flight: Option<NonZeroUsize>,
    batch: Option<NonZeroUsize>,
    /// Elements that windows without a timeout may keep, in all.
    kept: usize,
}

/// Most requests that a model is warmed up for at once.
const MAX_BATCH: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");

const WINDOW_FIRST: &str = "put a `timed_window` or a `partition` step before it";

impl Steps<'_> {
    fn resolve(mut self, tables: Vec<Spanned<StepTable>>) -> Result<Vec<StepPlan>, Problem> {
        let mut called = Vec::new();
        let steps = tables
            .into_iter()
            .map(|table| self.step(table, &mut called))
            .collect::<Result<_, _>>()?;
        // A model that no step names is not loaded.
        self.models.retain(|name, _| called.contains(name));
        Ok(steps)
    }

    fn step(
        &mut self,
        table: Spanned<StepTable>,
        called: &mut Vec<String>,
    ) -> Result<StepPlan, Problem> {
        let span = table.span();
        match table.into_inner() {
            StepTable::TimedWindow(TimedWindow { interval, max_size }) => {
                if interval.is_zero() {
                    return Err(Problem::new("`interval` must not be zero", span));
                }
                self.window("timed_window", max_size, span)?;
                Ok(StepPlan::TimedWindow { interval, max_size })
            }
            StepTable::Partition(Partition { size, timeout }) => {
                self.kept += if timeout.is_none() { size.get() } else { 0 };
                if self.in_flight.is_some_and(|bound| bound.get() < self.kept) {
                    let message =
                        "batches without a timeout need more than the source's `max_in_flight`";
                    let problem = Problem::new(message, span);
                    return Err(
                        problem.help("they may never be full: lower `size`, or give a `timeout`")
                    );
                }
                self.window("partition", size, span)?;
                Ok(StepPlan::Partition { size, timeout })
            }
            StepTable::Flatten(_) => {
                self.batch("flatten", span)?;
                Ok(StepPlan::Flatten)
            }
            StepTable::MapBatch(MapBatch { model }) => {
                let size = self.batch("map_batch", span)?;
                let name = model.get_ref();
                let Some(plan) = self.models.get_mut(name) else {
                    return Err(unknown_model(&model, self.models));
                };
                // Larger batches are run in parts.
                let size = size.min(MAX_BATCH);
                let known = called.contains(name);
                plan.max_batch = if known { plan.max_batch.max(size) } else { size };
                called.push(name.clone());
                Ok(StepPlan::MapBatch { model: model.into_inner() })
            }
        }
    }

    fn window(
        &mut self,
        name: &str,
        size: NonZeroUsize,
        span: Range<usize>,
    ) -> Result<(), Problem> {
        if self.batch.replace(size).is_none() {
            return Ok(());
        }
        let problem =
            Problem::new(format_args!("`{name}` takes single elements, and gets batches"), span);
        Err(problem.help("put a `flatten` or a `map_batch` step before it"))
    }

    fn batch(&mut self, name: &str, span: Range<usize>) -> Result<NonZeroUsize, Problem> {
        self.batch.take().ok_or_else(|| {
            let problem = Problem::new(
                format_args!("`{name}` takes batches, and gets single elements"),
                span,
            );
            problem.help(WINDOW_FIRST)
        })
    }
}

fn unknown_model(name: &Spanned<String>, models: &BTreeMap<String, ModelPlan>) -> Problem {
    let known: Vec<_> = models.keys().map(|name| format!("`{name}`")).collect();
    let help = match known.as_slice() {
        [] => format!("add a `[model.{}]` table with a `path`", name.get_ref()),
        known => format!("defined are {}", known.join(", ")),
    };
    Problem::new(format_args!("there is no model `{}`", name.get_ref()), name.span()).help(help)
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

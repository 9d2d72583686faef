//! The pipeline file, exactly as a user writes it.
//!
//! These types only describe syntax. [`Plan`](crate::Plan) is what they resolve to, and holds every invariant.

mod ends;
mod model;
mod step;

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

pub(crate) use ends::{KafkaSink, KafkaSource, SinkTable, SourceTable};
pub(crate) use model::ModelTable;
pub(crate) use step::{MapBatch, Partition, StepTable, TimedWindow};

/// Root of a pipeline file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineFile {
    /// The pipeline's name, for logs.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Where requests come from.
    pub(crate) source: Spanned<SourceTable>,
    /// What happens to them, in order.
    #[serde(default)]
    pub(crate) step: Vec<Spanned<StepTable>>,
    /// Where replies go.
    pub(crate) sink: Spanned<SinkTable>,
    /// The models that steps name.
    #[serde(default)]
    pub(crate) model: BTreeMap<String, Spanned<ModelTable>>,
}

//! `map_batch`: passes each batch through a model, or through an expression, in one call.

use std::sync::Arc;

use forebay_stream::{Batch, BatchResult, Failure};
use serde::Deserialize;
use toml::Spanned;

use crate::codes;
use crate::enrich::{Enrich, Fallback, Path};
use crate::jq::Jq;
use crate::json::Json;

/// `map_batch = { model = "sentiment" }`, `map_batch = { model = "sentiment", input = ".review",
/// output = ".sentiment" }` or `map_batch = "map(. * 2)"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Settings")]
pub(crate) struct MapBatch {
    pub(crate) call: Call,
    pub(crate) enrich: Arc<Enrich>,
}

/// The function that a batch is passed through.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// A name under `[model]`.
    Model(Spanned<String>),
    /// An expression that maps the array of a batch's values to an array of as many results.
    Jq(Jq),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    model: Option<Spanned<String>>,
    jq: Option<Jq>,
    /// Selects the part of each value that is passed to the model or the expression; the whole
    /// value if it is not set.
    input: Option<Jq>,
    /// The place in each value that gets the result; if it is not set, the result replaces the
    /// value.
    output: Option<Path>,
    /// The fallback that is put into a value for which the model or the expression fails, so that
    /// the value is passed on and does not fail.
    on_error: Option<Fallback>,
}

impl TryFrom<Settings> for MapBatch {
    type Error = &'static str;

    fn try_from(settings: Settings) -> Result<Self, Self::Error> {
        let Settings { model, jq, input, output, on_error } = settings;
        let call = match (model, jq) {
            (Some(model), None) => Call::Model(model),
            (None, Some(jq)) => Call::Jq(jq),
            (None, None) => return Err("`map_batch` needs a `model` or an expression (`jq`)"),
            (Some(_), Some(_)) => return Err("`model` and `jq` exclude each other"),
        };
        if on_error.is_some() && output.is_none() {
            return Err("`on_error` needs `output`, the place where its `value` is put");
        }
        Ok(Self { call, enrich: Arc::new(Enrich { input, output, on_error }) })
    }
}

impl MapBatch {
    /// Returns the name of the model, or `None` if the batch is passed through an expression.
    pub(crate) fn model(&self) -> Option<&Spanned<String>> {
        match &self.call {
            Call::Model(name) => Some(name),
            Call::Jq(_) => None,
        }
    }
}

impl From<Jq> for MapBatch {
    fn from(jq: Jq) -> Self {
        Self { call: Call::Jq(jq), enrich: Arc::default() }
    }
}

/// Runs a batch through an expression.
pub(crate) fn call(jq: &Jq, batch: &Batch<Json>) -> BatchResult<Json> {
    let results = jq.call(Json::array(batch.iter().cloned()), [])?;
    match results.into_members() {
        Ok(results) => Ok(results.into_iter().map(Ok).collect()),
        Err(_) => Err(Failure::new(codes::INVALID_TYPE, format_args!("`{jq}` must give an array"))),
    }
}

//! `map_batch`: each batch through a model, or through an expression, in one call.

use forebay_stream::{Batch, BatchResult, Failure};
use serde::Deserialize;
use toml::Spanned;

use crate::jq::Jq;
use crate::json::Json;

/// `map_batch = { model = "sentiment" }` or `map_batch = "map(. * 2)"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MapBatch {
    /// A name under `[model]`.
    Model(Spanned<String>),
    /// An expression of the array of a batch's values, which gives an array of as many results.
    Jq(Jq),
}

impl From<Jq> for MapBatch {
    fn from(jq: Jq) -> Self {
        Self::Jq(jq)
    }
}

/// Runs a batch through an expression.
pub(crate) fn call(jq: &Jq, batch: &Batch<Json>) -> BatchResult<Json> {
    let results = jq.call(Json::array(batch.iter().cloned()), [])?;
    match results.into_members() {
        Ok(results) => Ok(results.into_iter().map(Ok).collect()),
        Err(_) => Err(Failure::new("invalid_type", format_args!("`{jq}` must give an array"))),
    }
}

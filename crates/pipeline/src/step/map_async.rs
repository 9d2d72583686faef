//! `map_async` and `map_async_unordered`: replace each value by the result of an expression,
//! several at a time.

use forebay_stream::{Failure, Flow};
use futures::future::BoxFuture;
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::codes;
use crate::file::Parallelism;
use crate::jq::Jq;
use crate::json::Json;

/// `map_async = { jq = ".text | ascii_downcase", parallelism = 4 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapAsync {
    /// Computes the new value.
    jq: Jq,
    /// The number of values processed at once, each on its own thread.
    parallelism: Parallelism,
}

/// `map_async_unordered = { jq = ".text | ascii_downcase", parallelism = 4 }`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct MapAsyncUnordered(MapAsync);

impl MapAsync {
    fn call(
        &self,
    ) -> impl FnMut(Json) -> BoxFuture<'static, Result<Json, Failure>> + Send + 'static {
        let jq = self.jq.clone();
        move |value| {
            let jq = jq.clone();
            Box::pin(async move {
                let called = tokio::task::spawn_blocking(move || jq.call(value, [])).await;
                called.unwrap_or_else(|error| Err(Failure::new(codes::JQ_ERROR, error)))
            })
        }
    }
}

impl OnValues for MapAsync {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.map_async(self.call(), self.parallelism.get())
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

impl OnValues for MapAsyncUnordered {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        flow.map_async_unordered(self.0.call(), self.0.parallelism.get())
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

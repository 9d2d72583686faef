//! Tasks: how a step's JSON requests reach a model, and how its outputs become JSON.

use std::sync::Arc;

use crate::json::Json;
use crate::request;
use forebay_model::{ModelHandle, TextModel};
use forebay_stream::{Batch, BatchResult, Failure, MapBatch as _};
use futures::future::BoxFuture;

/// A batch of requests in, one JSON result each out.
pub(crate) type Task =
    Arc<dyn Fn(Batch<Json>) -> BoxFuture<'static, BatchResult<Json>> + Send + Sync>;

/// A text model. Requests without a usable text fail alone, and cost the model nothing.
pub(crate) fn text(model: ModelHandle<TextModel>) -> Task {
    Arc::new(move |requests| {
        let model = model.clone();
        Box::pin(async move {
            let texts: Vec<_> = requests.iter().map(request::text).collect();
            let good: Vec<_> =
                texts.iter().filter_map(|text| text.as_ref().ok().cloned()).collect();
            let outputs =
                if good.is_empty() { Vec::new() } else { model.call(good.into()).await? };
            let mut outputs = outputs.into_iter();
            let result = |text: Result<String, Failure>| {
                text?;
                let output = outputs
                    .next()
                    .ok_or_else(|| Failure::new("internal", "the model gave too few results"))??;
                Json::encode(&output)
            };
            Ok(texts.into_iter().map(result).collect())
        })
    })
}

/// Stands for a model where a pipeline is drawn and not run.
pub(crate) fn stub() -> Task {
    Arc::new(|requests| {
        let unloaded = || Err(Failure::new("model_unavailable", "the model is not loaded"));
        let results = requests.iter().map(|_| unloaded()).collect();
        Box::pin(std::future::ready(Ok(results)))
    })
}

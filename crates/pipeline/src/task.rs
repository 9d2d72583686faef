//! Tasks: how a step's JSON requests reach a model, and how its outputs become JSON.

use std::sync::Arc;

use forebay_model::{ModelHandle, TextModel};
use forebay_stream::{Batch, BatchResult, Failure, MapBatch as _};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::request;

/// A batch of requests in, one JSON result each out.
pub(crate) type Task =
    Arc<dyn Fn(Batch<Value>) -> BoxFuture<'static, BatchResult<Value>> + Send + Sync>;

/// A text model. Requests without a usable text fail alone, and cost the model nothing.
///
/// `on_batch` hears of the size of every batch that goes to the model.
pub(crate) fn text(
    model: ModelHandle<TextModel>,
    on_batch: impl Fn(usize) + Send + Sync + 'static,
) -> Task {
    let on_batch = Arc::new(on_batch);
    Arc::new(move |requests| {
        let (model, on_batch) = (model.clone(), Arc::clone(&on_batch));
        Box::pin(async move {
            let texts: Vec<_> = requests.iter().map(request::text).collect();
            let good: Vec<_> =
                texts.iter().filter_map(|text| text.as_ref().ok().cloned()).collect();
            let outputs = if good.is_empty() {
                Vec::new()
            } else {
                on_batch(good.len());
                model.call(good.into()).await?
            };
            let mut outputs = outputs.into_iter();
            let result = |text: Result<String, Failure>| {
                text?;
                let output = outputs
                    .next()
                    .ok_or_else(|| Failure::new("internal", "the model gave too few results"))??;
                serde_json::to_value(output)
                    .map_err(|error| Failure::new("unserializable_result", error))
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

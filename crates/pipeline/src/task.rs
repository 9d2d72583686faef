//! Tasks: how a step's JSON requests reach a model, and how its outputs become JSON.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::json::Json;
use crate::request;
use forebay_model::{TextHandle, TextOutput, Tokens};
use forebay_stream::batching::{CostModel, Shapes};
use forebay_stream::{Batch, BatchResult, Failure, MapBatch};
use futures::future::BoxFuture;

/// What a model does for a step.
#[derive(Clone)]
pub(crate) enum Task {
    /// Texts, which can be tokenised before they are gathered.
    Text(TextTask),
    /// JSON in, JSON out.
    Json(JsonTask),
}

/// A batch of requests in, one JSON result each out.
pub(crate) type JsonTask =
    Arc<dyn Fn(Batch<Json>) -> BoxFuture<'static, BatchResult<Json>> + Send + Sync>;

/// Told the size of each batch.
pub(crate) type OnBatch = Arc<dyn Fn(usize) + Send + Sync>;

impl Task {
    /// The same, which tells of the batches that it is given.
    pub(crate) fn telling(&self, on_batch: OnBatch) -> Self {
        match self {
            Self::Text(task) => Self::Text(TextTask { on_batch, ..task.clone() }),
            Self::Json(task) => {
                let task = Arc::clone(task);
                Self::Json(Arc::new(move |batch| {
                    on_batch(batch.len());
                    task(batch)
                }))
            }
        }
    }

    /// Stands for a model of the user's where a pipeline is drawn and not run.
    pub(crate) fn json_stub() -> Self {
        Self::Json(Arc::new(|_| Box::pin(std::future::ready(Err(unloaded())))))
    }
}

/// A text model's task. Requests without a usable text fail alone, and cost the model nothing.
#[derive(Clone)]
pub(crate) struct TextTask {
    /// `None` where a pipeline is drawn and not run.
    model: Option<TextHandle>,
    on_batch: OnBatch,
}

impl TextTask {
    pub(crate) fn new(model: TextHandle) -> Self {
        Self { model: Some(model), on_batch: Arc::new(|_| {}) }
    }

    /// Stands for a model where a pipeline is drawn and not run.
    pub(crate) fn stub() -> Self {
        Self { model: None, on_batch: Arc::new(|_| {}) }
    }

    /// What the model's device costs.
    pub(crate) fn costs(&self) -> Arc<CostModel> {
        match &self.model {
            Some(model) => model.costs(),
            None => Arc::new(CostModel::new(Shapes::ragged())),
        }
    }

    /// What the model is given of a request.
    pub(crate) async fn tokenize(self, request: Json) -> Result<Tokens, Failure> {
        let text = request::text(&request)?;
        self.model.ok_or_else(unloaded)?.tokenize(text).await
    }
}

impl MapBatch<Tokens> for TextTask {
    type Output = Json;

    async fn call(&self, batch: Batch<Tokens>) -> BatchResult<Json> {
        (self.on_batch)(batch.len());
        let outputs = self.model.as_ref().ok_or_else(unloaded)?.call(batch).await?;
        Ok(outputs.into_iter().map(encode).collect())
    }

    fn slots(&self) -> NonZeroUsize {
        self.model.as_ref().map_or(NonZeroUsize::MIN, MapBatch::<Tokens>::slots)
    }

    fn keeps_order(&self) -> bool {
        self.model.as_ref().is_some_and(MapBatch::<Tokens>::keeps_order)
    }

    async fn ready(&self) {
        if let Some(model) = &self.model {
            MapBatch::<Tokens>::ready(model).await;
        }
    }
}

impl MapBatch<Json> for TextTask {
    type Output = Json;

    async fn call(&self, requests: Batch<Json>) -> BatchResult<Json> {
        (self.on_batch)(requests.len());
        let model = self.model.as_ref().ok_or_else(unloaded)?;
        let texts: Vec<_> = requests.iter().map(request::text).collect();
        let good: Vec<_> = texts.iter().flatten().cloned().collect();
        let outputs = if good.is_empty() { Vec::new() } else { model.call(good.into()).await? };
        let mut outputs = outputs.into_iter();
        let missing = || Err(Failure::new("internal", "the model gave too few results"));
        let result = |text: Result<String, Failure>| {
            text.and_then(|_| encode(outputs.next().unwrap_or_else(missing)))
        };
        Ok(texts.into_iter().map(result).collect())
    }

    fn slots(&self) -> NonZeroUsize {
        MapBatch::<Tokens>::slots(self)
    }

    fn keeps_order(&self) -> bool {
        MapBatch::<Tokens>::keeps_order(self)
    }

    async fn ready(&self) {
        MapBatch::<Tokens>::ready(self).await;
    }
}

fn encode(output: Result<TextOutput, Failure>) -> Result<Json, Failure> {
    Json::encode(&output?)
}

fn unloaded() -> Failure {
    Failure::new("model_unavailable", "the model is not loaded")
}

//! `Task`: carries a step's JSON requests to a model, and the model's outputs back as JSON.

use std::sync::Arc;

use crate::enrich::{Enrich, Extracted};
use crate::json::Json;
use forebay_model::codes::MODEL_UNAVAILABLE;
use forebay_model::{Label, TextHandle, TextOutput, Tokens};
use forebay_stream::batching::{CostModel, Shapes};
use forebay_stream::{Batch, BatchResult, Failure, MapBatch, Pace, prepared};
use futures::future::BoxFuture;
use metrics::{Histogram, histogram};
use tokio::time::Instant;

/// The function of a model that a step calls.
#[derive(Clone)]
pub(crate) enum Task {
    /// A text model, whose texts can be tokenised before they are gathered into batches.
    Text(TextTask),
    /// A model from JSON to JSON.
    Json(JsonTask),
}

/// Takes a batch of requests, and returns one JSON result for each.
pub(crate) type JsonTask =
    Arc<dyn Fn(Batch<Json>) -> BoxFuture<'static, BatchResult<Json>> + Send + Sync>;

/// A callback that is passed the size of each batch.
pub(crate) type OnBatch = Arc<dyn Fn(usize) + Send + Sync>;

impl Task {
    /// Returns a copy of the task of the model `name` that calls `on_batch` before each batch, and
    /// measures how long texts take to be tokenised.
    pub(crate) fn observed(&self, name: &str, on_batch: OnBatch) -> Self {
        match self {
            Self::Text(task) => {
                let tokenizing =
                    histogram!("forebay_request_tokenize_seconds", "model" => name.to_owned());
                Self::Text(TextTask { on_batch, tokenizing, ..task.clone() })
            }
            Self::Json(task) => {
                let task = Arc::clone(task);
                Self::Json(Arc::new(move |batch| {
                    on_batch(batch.len());
                    task(batch)
                }))
            }
        }
    }

    /// Returns a placeholder for a model that the user has registered, for a pipeline that is only
    /// drawn.
    pub(crate) fn json_stub() -> Self {
        Self::Json(Arc::new(|_| Box::pin(std::future::ready(Err(unloaded())))))
    }
}

/// A text model's task. A value without a usable text never reaches the model, and does not fail
/// the other values of its batch.
#[derive(Clone)]
pub(crate) struct TextTask {
    /// `None` if the pipeline is only drawn.
    model: Option<TextHandle>,
    on_batch: OnBatch,
    tokenizing: Histogram,
    enrich: Arc<Enrich>,
}

impl TextTask {
    pub(crate) fn new(model: TextHandle) -> Self {
        Self { model: Some(model), ..Self::stub() }
    }

    /// Returns a placeholder for a text model, for a pipeline that is only drawn.
    pub(crate) fn stub() -> Self {
        Self {
            model: None,
            on_batch: Arc::new(|_| {}),
            tokenizing: Histogram::noop(),
            enrich: Arc::default(),
        }
    }

    /// Returns the task for a step with the settings `input`, `output` and `on_error` in `enrich`.
    pub(crate) fn enriching(self, enrich: Arc<Enrich>) -> Self {
        Self { enrich, ..self }
    }

    /// Returns the cost model of the model's device.
    pub(crate) fn costs(&self) -> Arc<CostModel> {
        match &self.model {
            Some(model) => model.costs(),
            None => Arc::new(CostModel::new(Shapes::ragged())),
        }
    }

    /// Extracts the texts of a value and returns their tokens.
    pub(crate) async fn tokenize(self, value: Json) -> Result<Extracted<Tokens>, Failure> {
        let model = self.model.as_ref().ok_or_else(unloaded)?;
        let started = Instant::now();
        let texts = self.enrich.texts(&value);
        let tokens = texts.try_map(|text| model.clone().tokenize(text)).await;
        self.tokenizing.record(started.elapsed().as_secs_f64());
        self.enrich.admit(tokens)
    }
}

impl MapBatch<Extracted<Tokens>> for TextTask {
    type Output = Json;

    async fn call(&self, batch: Batch<Extracted<Tokens>>) -> BatchResult<Json> {
        (self.on_batch)(batch.len());
        let model = self.model.as_ref().ok_or_else(unloaded)?;
        let call = |tokens: Batch<Tokens>| async { model.call(tokens).await.map(to_json) };
        self.enrich.call(&batch, call).await
    }

    fn pace(&self) -> Pace {
        self.model.as_ref().map(MapBatch::<Tokens>::pace).unwrap_or_default()
    }
}

impl MapBatch<Json> for TextTask {
    type Output = Json;

    async fn call(&self, values: Batch<Json>) -> BatchResult<Json> {
        let tokenize = |value| self.clone().tokenize(value);
        prepared(&values, tokenize, |tokens: Batch<Extracted<Tokens>>| self.call(tokens)).await
    }

    fn pace(&self) -> Pace {
        MapBatch::<Extracted<Tokens>>::pace(self)
    }
}

/// Returns the task for a step with the settings `input`, `output` and `on_error` in `enrich`.
pub(crate) fn enriching(task: JsonTask, enrich: Arc<Enrich>) -> JsonTask {
    Arc::new(move |values| {
        let task = Arc::clone(&task);
        let enrich = Arc::clone(&enrich);
        Box::pin(async move {
            let inputs: Vec<_> = values.iter().map(|value| enrich.json(value)).collect();
            enrich.call(&inputs, |inputs| task(inputs)).await
        })
    })
}

fn to_json(outputs: Vec<Result<TextOutput, Failure>>) -> Vec<Result<Json, Failure>> {
    outputs.into_iter().map(|output| output.map(Json::from)).collect()
}

impl From<TextOutput> for Json {
    fn from(output: TextOutput) -> Self {
        match output {
            TextOutput::Label(label) => label.into(),
            TextOutput::Labels(labels) => Self::array(labels.into_iter().map(Self::from)),
            TextOutput::Embedding { embedding } => {
                let numbers = embedding.into_iter().map(|number| Self::from(f64::from(number)));
                Self::object([("embedding".to_owned(), Self::array(numbers))])
            }
        }
    }
}

impl From<Label> for Json {
    fn from(Label { label, score }: Label) -> Self {
        let score = Self::from(f64::from(score));
        Self::object([("label".to_owned(), Self::text(&label)), ("score".to_owned(), score)])
    }
}

fn unloaded() -> Failure {
    Failure::new(MODEL_UNAVAILABLE, "the model is not loaded")
}

#[cfg(test)]
mod tests {
    use forebay_model::{Label, TextOutput};

    use crate::json::Json;

    #[test]
    fn an_output_is_converted_to_the_same_json_as_by_serde() {
        let label = || Label { label: "good \"news\"".to_owned(), score: 0.75 };
        let outputs = [
            TextOutput::Label(label()),
            TextOutput::Labels(vec![label(), label()]),
            TextOutput::Embedding { embedding: vec![0.1, -2.5e-9, 0.0] },
        ];
        for output in outputs {
            let expected = serde_json::to_string(&serde_json::to_value(&output).unwrap()).unwrap();
            assert_eq!(Json::from(output).to_string(), expected);
        }
    }

    #[test]
    fn a_score_that_is_not_a_number_is_an_error_instead_of_null() {
        let output = TextOutput::Label(Label { label: "good".to_owned(), score: f32::NAN });
        let failure = Json::from(output).to_bytes().unwrap_err();
        assert_eq!(failure.code(), "not_finite");
    }

    #[test]
    fn a_vector_that_is_not_finite_is_an_error_instead_of_nulls_a4() {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let output = TextOutput::Embedding { embedding: vec![0.5, number] };
            let failure = Json::from(output).to_bytes().unwrap_err();
            assert_eq!(failure.code(), "not_finite", "{number}");
        }
    }
}

//! `Registry`: the user's own operators, sources, sinks and models, for use in pipeline files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_model::{Model, ModelHandle, WarmUp, Work};
use forebay_stream::{Failure, Flow, MapBatch as _, Sink, Source};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeValue;

use crate::answer::Answer;
use crate::diagnostic::Problem;
use crate::error::BoxError;
use crate::file;
use crate::json::Json;
use crate::sink::{CustomSink, SinkEnd};
use crate::source::{CustomSource, SourceEnd};
use crate::step::{Nature, OnValues, Operator};
use crate::task::Task;

/// The user's own operators, sources, sinks and models, each registered under a name for use in
/// pipeline files.
///
/// A file uses them like the built-in ones: an operator in a `[[step]]` with `NAME = { .. }`, a
/// source as `[source.NAME]`, a sink as `[sink.NAME]`, and a model as `[model.ANY.NAME]`. The file
/// chooses the name `ANY`, and its steps call the model by this name. The table's settings
/// are deserialised into the registered type when the file is read, so an error message shows the
/// line of a mistake. Give that type `#[serde(deny_unknown_fields)]`, so that misspelt keys are
/// errors too.
///
/// ```
/// use std::path::Path;
///
/// use forebay_pipeline::{Json, Plan, Registry};
/// use forebay_stream::Flow;
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Repeat {
///     times: usize,
/// }
///
/// let registry = Registry::new().step("repeat", |settings: &Repeat, flow: Flow<Json>| {
///     let times = settings.times;
///     flow.map(move |value| vec![value; times]).flatten()
/// });
/// let file = "[source.stdin]\n[[step]]\nrepeat = { times = 2 }\n[sink.stdout]\n";
/// let plan = Plan::parse_with(Path::new("pipeline.toml"), file, &|_| None, &registry)?;
/// assert!(plan.graph().to_mermaid().contains("repeat"));
/// # Ok::<_, forebay_pipeline::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Registry {
    steps: Items<Operator>,
    sources: Items<Arc<dyn SourceEnd>>,
    sinks: Items<Arc<dyn SinkEnd>>,
    models: Items<Arc<dyn LoadModel>>,
}

type Settings<'i> = Spanned<DeValue<'i>>;

/// The registered items of one sort: their names, and how each reads its settings.
type Items<T> = BTreeMap<String, Box<dyn Fn(Settings<'_>) -> Result<T, Problem> + Send + Sync>>;

/// A registered model with its settings from the file, not loaded yet.
pub(crate) trait LoadModel: Send + Sync {
    /// Loads the model on a thread with the given name.
    fn load(
        &self,
        name: String,
        on_warm_up: OnWarmUp,
    ) -> BoxFuture<'static, Result<LoadedModel, forebay_model::Error>>;
}

pub(crate) type OnWarmUp = Box<dyn FnMut(WarmUp) + Send>;

/// A loaded model.
pub(crate) struct LoadedModel {
    pub(crate) description: String,
    pub(crate) task: Task,
    /// Resolves when the model's thread has ended although the model is still in use.
    pub(crate) closed: BoxFuture<'static, Failure>,
    /// Returns how much the model has done.
    pub(crate) work: Arc<dyn Fn() -> Work + Send + Sync>,
}

impl Registry {
    /// Creates an empty registry: pipeline files can use the built-in operators, sources and sinks
    /// only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an operator on single values, used in a `[[step]]` with `NAME = { .. }`. After a
    /// window, the operator gets each batch as an array.
    ///
    /// The operator may remember values, so exactly-once delivery refuses it. Register an operator
    /// that remembers nothing with [`stateless_step`](Self::stateless_step).
    #[must_use]
    pub fn step<S, F>(self, name: impl Into<String>, apply: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
    {
        self.add_step(name.into(), apply, Nature::SEVERAL)
    }

    /// Registers an operator each of whose results depends on one value only, whatever came before
    /// it. It can be used with exactly-once delivery, which [`step`](Self::step) cannot.
    #[must_use]
    pub fn stateless_step<S, F>(self, name: impl Into<String>, apply: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
    {
        self.add_step(name.into(), apply, Nature::EACH)
    }

    fn add_step<S, F>(mut self, name: String, apply: F, nature: Nature) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
    {
        let apply = Arc::new(apply);
        let parse = move |settings: Settings<'_>| {
            let settings: S = file::value(settings)?;
            let step = CustomStep { settings, apply: Arc::clone(&apply), nature };
            Ok(Operator::Values(Arc::new(step)))
        };
        self.steps.insert(name, Box::new(parse));
        self
    }

    /// Registers a source of JSON values, used as `[source.NAME]`. `open` is called when the
    /// pipeline starts.
    ///
    /// An event's receipt is done when its answer, a result or an error, is delivered.
    #[must_use]
    pub fn source<S, C, E, F>(mut self, name: impl Into<String>, open: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        C: Source<Json>,
        E: Into<BoxError> + 'static,
        F: Fn(&S) -> Result<C, E> + Send + Sync + 'static,
    {
        let name = name.into();
        let open = Arc::new(open);
        let parse = {
            let kind = name.clone();
            move |settings: Settings<'_>| {
                let settings: Arc<S> = Arc::new(file::value(settings)?);
                let source = CustomSource { kind: kind.clone(), settings, open: Arc::clone(&open) };
                Ok(Arc::new(source) as Arc<dyn SourceEnd>)
            }
        };
        self.sources.insert(name, Box::new(parse));
        self
    }

    /// Registers a sink of answers, used as `[sink.NAME]`. `open` is called when the pipeline
    /// starts, before its sources are opened.
    #[must_use]
    pub fn sink<S, C, E, F>(mut self, name: impl Into<String>, open: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        C: Sink<Answer>,
        E: Into<BoxError> + 'static,
        F: Fn(&S) -> Result<C, E> + Send + Sync + 'static,
    {
        let name = name.into();
        let open = Arc::new(open);
        let parse = {
            let kind = name.clone();
            move |settings: Settings<'_>| {
                let settings: S = file::value(settings)?;
                let sink = CustomSink { kind: kind.clone(), settings, open: Arc::clone(&open) };
                Ok(Arc::new(sink) as Arc<dyn SinkEnd>)
            }
        };
        self.sinks.insert(name, Box::new(parse));
        self
    }

    /// Registers a model from JSON to JSON, used as `[model.ANY.NAME]`. The file chooses the name
    /// `ANY`, and its steps call the model with `map_batch = { model = "ANY" }`.
    ///
    /// `load` runs on the model's own thread when the pipeline starts, and again after a panic.
    #[must_use]
    pub fn model<S, M, E, F>(mut self, name: impl Into<String>, load: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        M: Model<Input = Json, Output = Json>,
        E: Into<BoxError> + 'static,
        F: Fn(&S) -> Result<M, E> + Send + Sync + 'static,
    {
        let load = Arc::new(load);
        let parse = move |settings: Settings<'_>| {
            let settings: Arc<S> = Arc::new(file::value(settings)?);
            let model = CustomModel { settings, load: Arc::clone(&load) };
            Ok(Arc::new(model) as Arc<dyn LoadModel>)
        };
        self.models.insert(name.into(), Box::new(parse));
        self
    }

    pub(crate) fn parse_step(&self, name: &str, settings: Settings<'_>) -> Parsed<Operator> {
        parsed(&self.steps, name, settings)
    }

    pub(crate) fn parse_source(
        &self,
        name: &str,
        settings: Settings<'_>,
    ) -> Parsed<Arc<dyn SourceEnd>> {
        parsed(&self.sources, name, settings)
    }

    pub(crate) fn parse_sink(
        &self,
        name: &str,
        settings: Settings<'_>,
    ) -> Parsed<Arc<dyn SinkEnd>> {
        parsed(&self.sinks, name, settings)
    }

    pub(crate) fn parse_model(
        &self,
        name: &str,
        settings: Settings<'_>,
    ) -> Parsed<Arc<dyn LoadModel>> {
        parsed(&self.models, name, settings)
    }

    pub(crate) fn has_model(&self, name: &str) -> bool {
        self.models.contains_key(name)
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.keys().map(String::as_str)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    pub(crate) fn sinks(&self) -> impl Iterator<Item = &str> {
        self.sinks.keys().map(String::as_str)
    }
}

/// The parsed settings of a registered item; `None` if nothing is registered under the name.
pub(crate) type Parsed<T> = Option<Result<T, Problem>>;

fn parsed<T>(known: &Items<T>, name: &str, settings: Settings<'_>) -> Parsed<T> {
    known.get(name).map(|parse| parse(settings))
}

struct CustomStep<S, F> {
    settings: S,
    apply: Arc<F>,
    nature: Nature,
}

impl<S, F> OnValues for CustomStep<S, F>
where
    S: Send + Sync + 'static,
    F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
{
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        (self.apply)(&self.settings, flow)
    }

    fn nature(&self) -> Nature {
        self.nature
    }
}

struct CustomModel<S, F> {
    settings: Arc<S>,
    load: Arc<F>,
}

impl<S, M, E, F> LoadModel for CustomModel<S, F>
where
    S: Send + Sync + 'static,
    M: Model<Input = Json, Output = Json>,
    E: Into<BoxError> + 'static,
    F: Fn(&S) -> Result<M, E> + Send + Sync + 'static,
{
    fn load(
        &self,
        name: String,
        on_warm_up: OnWarmUp,
    ) -> BoxFuture<'static, Result<LoadedModel, forebay_model::Error>> {
        let settings = Arc::clone(&self.settings);
        let load = Arc::clone(&self.load);
        Box::pin(async move {
            let build =
                move || load(&settings).map_err(|error| forebay_model::Error::Custom(error.into()));
            let handle = ModelHandle::spawn(&name, build, on_warm_up).await?;
            let called = handle.clone();
            let watched = handle.clone();
            let counted = handle.clone();
            Ok(LoadedModel {
                description: handle.describe().to_owned(),
                task: Task::Json(Arc::new(move |batch| {
                    let handle = called.clone();
                    Box::pin(async move { handle.call(batch).await })
                })),
                closed: Box::pin(async move { watched.closed().await }),
                work: Arc::new(move || counted.work()),
            })
        })
    }
}

impl<S, F> fmt::Debug for CustomStep<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomStep")
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("steps", &self.steps.keys())
            .field("sources", &self.sources.keys())
            .field("sinks", &self.sinks.keys())
            .field("models", &self.models.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;

    use forebay_stream::{Event, Sink, Source};
    use serde::Deserialize;
    use tokio_util::sync::CancellationToken;

    use super::Registry;
    use crate::answer::Answer;
    use crate::error::RunError;
    use crate::json::Json;
    use crate::plan::Plan;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        count: usize,
    }

    struct Fixed(std::ops::Range<usize>);

    impl Source<Json> for Fixed {
        type Error = Infallible;

        async fn next(&mut self) -> Result<Option<Event<Json>>, Infallible> {
            Ok(self.0.next().map(|number| Event::detached(Json::from(number))))
        }
    }

    struct Nowhere;

    impl Sink<Answer> for Nowhere {
        type Error = Infallible;

        async fn send(&mut self, event: Event<Answer>) -> Result<(), Infallible> {
            event.receipt.done();
            Ok(())
        }
    }

    fn registry() -> Registry {
        Registry::new()
            .step("repeat", |settings: &Settings, flow| {
                let count = settings.count;
                flow.map(move |value| vec![value; count]).flatten()
            })
            .source("fixed", |settings: &Settings| match settings.count {
                0 => Err("there is nothing to count"),
                count => Ok(Fixed(0..count)),
            })
            .sink("nowhere", |_: &Settings| Ok::<_, Infallible>(Nowhere))
    }

    fn parse(steps: &str) -> Result<Plan, String> {
        let text = format!("[source.fixed]\ncount = {steps}\n[sink.nowhere]\ncount = 0\n");
        Plan::parse_with(Path::new("own.toml"), &text, &|_| None, &registry())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_registered_operator_source_and_sink_run_like_built_in_ones() {
        let plan = parse("3\n[[step]]\nrepeat = { count = 4 }").unwrap();
        let summary = plan.run(CancellationToken::new(), |_| {}).await.unwrap();
        assert_eq!((summary.answers, summary.errors), (12, 0));
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_opened_fails_the_start_with_its_error() {
        let plan = parse("0").unwrap();
        let error = plan.run(CancellationToken::new(), |_| {}).await.unwrap_err();
        assert!(error.is_startup());
        let RunError::Custom { kind, source } = error else { panic!("{error}") };
        assert_eq!(
            (kind.as_str(), source.to_string().as_str()),
            ("fixed", "there is nothing to count")
        );
    }

    /// Refuses the results that are even numbers.
    struct RefusesEven;

    impl Sink<Answer> for RefusesEven {
        type Error = Infallible;

        async fn send(&mut self, event: Event<Answer>) -> Result<(), Infallible> {
            let number = std::str::from_utf8(&event.value.value)
                .ok()
                .and_then(|text| text.parse::<u32>().ok());
            match number {
                Some(even) if even % 2 == 0 => {
                    event.receipt.fail(forebay_stream::Failure::new("even", "it is even"));
                }
                _ => event.receipt.done(),
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_whose_result_the_sink_refuses_counts_once_a11() {
        let registry = registry().sink("refuses", |_: &Settings| Ok::<_, Infallible>(RefusesEven));
        for order in ["", "order = \"key\"\n"] {
            let text = format!("{order}[source.fixed]\ncount = 5\n[sink.refuses]\ncount = 0\n");
            let plan =
                Plan::parse_with(Path::new("own.toml"), &text, &|_| None, &registry).unwrap();
            let summary = plan.run(CancellationToken::new(), |_| {}).await.unwrap();
            assert_eq!((summary.answers, summary.errors), (5, 3), "{order}");
        }
        // The other half of the requests of a branch is delivered.
        let text = "[source.fixed]\ncount = 5\n[[sink.refuses]]\nname = \"a\"\ncount = 0\n[sink.nowhere]\ncount = 0\nfrom = \"fixed\"\n";
        let text = text.replace("name = \"a\"\n", "from = \"fixed\"\n");
        let plan = Plan::parse_with(Path::new("own.toml"), &text, &|_| None, &registry).unwrap();
        let summary = plan.run(CancellationToken::new(), |_| {}).await.unwrap();
        assert_eq!((summary.answers, summary.errors), (10, 3));
    }

    #[test]
    fn a_mistake_in_the_settings_is_shown_with_its_line() {
        let error = parse("3\n[[step]]\nrepeat = { times = 4 }").unwrap_err();
        assert!(
            error.contains("unknown field `times`") && error.contains("own.toml:4:12"),
            "{error}"
        );
        let error = parse("3\n[[step]]\nrepaet = { count = 4 }").unwrap_err();
        assert!(error.contains("did you mean `repeat`?"), "{error}");
    }
}

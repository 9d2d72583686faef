//! `Registry`: the user's own operators, sources, sinks and models, for use in pipeline files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_model::{Model, ModelHandle, WarmUp};
use forebay_stream::{Failure, Flow, MapBatch as _, Pipeline, Sink, Source};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use toml::Spanned;
use toml::de::DeValue;

use crate::answer::Answer;
use crate::diagnostic::Problem;
use crate::file;
use crate::json::Json;
use crate::record::{Record, Until};
use crate::step::{OnValues, Operator};
use crate::task::Task;

/// Any error of a connector or a model.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
    steps: BTreeMap<String, ParseStep>,
    sources: BTreeMap<String, ParseSource>,
    sinks: BTreeMap<String, ParseSink>,
    models: BTreeMap<String, ParseModel>,
}

type Settings<'i> = Spanned<DeValue<'i>>;
type Parse<T> = Box<dyn Fn(Settings<'_>) -> Result<T, Problem> + Send + Sync>;
type ParseStep = Parse<Operator>;
type ParseSource = Parse<CustomSource>;
type ParseSink = Parse<CustomSink>;
type ParseModel = Parse<CustomModel>;

/// A registered source with its settings from the file, not opened yet. The open source ends when
/// the token is cancelled.
#[derive(Clone)]
pub(crate) struct CustomSource(Arc<OpenSource>);
type OpenSource = dyn Fn(String, CancellationToken) -> BoxFuture<'static, Result<Flow<Record>, BoxError>>
    + Send
    + Sync;

/// A registered sink with its settings from the file, not opened yet.
#[derive(Clone)]
pub(crate) struct CustomSink(Arc<OpenSink>);
type OpenSink = dyn Fn(String) -> BoxFuture<'static, Result<AttachSink, BoxError>> + Send + Sync;

/// Attaches an open sink to a flow.
pub(crate) type AttachSink = Box<dyn FnOnce(Flow<Answer>) -> Pipeline + Send>;

/// A registered model with its settings from the file, not loaded yet. It is loaded on a thread
/// with the given name.
#[derive(Clone)]
pub(crate) struct CustomModel(Arc<LoadModel>);
type LoadModel = dyn Fn(String, OnWarmUp) -> BoxFuture<'static, Result<LoadedModel, forebay_model::Error>>
    + Send
    + Sync;

pub(crate) type OnWarmUp = Box<dyn FnMut(WarmUp) + Send>;

/// A loaded model.
pub(crate) struct LoadedModel {
    pub(crate) description: String,
    pub(crate) task: Task,
    /// Resolves when the model's thread has ended although the model is still in use.
    pub(crate) closed: BoxFuture<'static, Failure>,
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
    #[must_use]
    pub fn step<S, F>(mut self, name: impl Into<String>, apply: F) -> Self
    where
        S: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
    {
        let apply = Arc::new(apply);
        let parse = move |settings: Settings<'_>| {
            let settings: S = file::value(settings)?;
            Ok(Operator::Values(Arc::new(Custom { settings, apply: Arc::clone(&apply) })))
        };
        self.steps.insert(name.into(), Box::new(parse));
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
        let open = Arc::new(open);
        let parse = move |settings: Settings<'_>| {
            let settings = Arc::new(file::value::<S>(settings)?);
            let open = Arc::clone(&open);
            Ok(CustomSource(Arc::new(move |name, stop| {
                let source = open(&settings).map_err(Into::into);
                let flow = source.map(|source| Flow::from_source(name, Until { source, stop }));
                Box::pin(std::future::ready(flow))
            })))
        };
        self.sources.insert(name.into(), Box::new(parse));
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
        let open = Arc::new(open);
        let parse = move |settings: Settings<'_>| {
            let settings = Arc::new(file::value::<S>(settings)?);
            let open = Arc::clone(&open);
            Ok(CustomSink(Arc::new(move |name: String| {
                let sink = open(&settings).map_err(Into::into);
                let attach = sink.map(|sink| {
                    let attach: AttachSink = Box::new(|answers| answers.sink(name, sink));
                    attach
                });
                Box::pin(std::future::ready(attach))
            })))
        };
        self.sinks.insert(name.into(), Box::new(parse));
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
            let settings = Arc::new(file::value::<S>(settings)?);
            let load = Arc::clone(&load);
            Ok(CustomModel(Arc::new(move |name: String, on_warm_up| {
                let settings = Arc::clone(&settings);
                let load = Arc::clone(&load);
                Box::pin(async move {
                    let build = move || {
                        load(&settings).map_err(|error| forebay_model::Error::Custom(error.into()))
                    };
                    let handle = ModelHandle::spawn(&name, build, on_warm_up).await?;
                    let called = handle.clone();
                    let watched = handle.clone();
                    Ok(LoadedModel {
                        description: handle.describe().to_owned(),
                        task: Task::Json(Arc::new(move |batch| {
                            let handle = called.clone();
                            Box::pin(async move { handle.call(batch).await })
                        })),
                        closed: Box::pin(async move { watched.closed().await }),
                    })
                })
            })))
        };
        self.models.insert(name.into(), Box::new(parse));
        self
    }

    pub(crate) fn parse_step(&self, name: &str, settings: Settings<'_>) -> Parsed<Operator> {
        parsed(&self.steps, name, settings)
    }

    pub(crate) fn parse_source(&self, name: &str, settings: Settings<'_>) -> Parsed<CustomSource> {
        parsed(&self.sources, name, settings)
    }

    pub(crate) fn parse_sink(&self, name: &str, settings: Settings<'_>) -> Parsed<CustomSink> {
        parsed(&self.sinks, name, settings)
    }

    pub(crate) fn parse_model(&self, name: &str, settings: Settings<'_>) -> Parsed<CustomModel> {
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

fn parsed<T>(known: &BTreeMap<String, Parse<T>>, name: &str, settings: Settings<'_>) -> Parsed<T> {
    known.get(name).map(|parse| parse(settings))
}

struct Custom<S, F> {
    settings: S,
    apply: Arc<F>,
}

impl<S, F> OnValues for Custom<S, F>
where
    S: Send + Sync + 'static,
    F: Fn(&S, Flow<Json>) -> Flow<Json> + Send + Sync + 'static,
{
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        (self.apply)(&self.settings, flow)
    }
}

impl CustomSource {
    pub(crate) async fn open(
        &self,
        name: String,
        stop: CancellationToken,
    ) -> Result<Flow<Record>, BoxError> {
        (self.0)(name, stop).await
    }
}

impl CustomSink {
    pub(crate) async fn open(&self, name: String) -> Result<AttachSink, BoxError> {
        (self.0)(name).await
    }
}

impl CustomModel {
    pub(crate) async fn load(
        &self,
        name: String,
        on_warm_up: OnWarmUp,
    ) -> Result<LoadedModel, forebay_model::Error> {
        (self.0)(name, on_warm_up).await
    }
}

impl<S, F> fmt::Debug for Custom<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
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
    use crate::json::Json;
    use crate::plan::Plan;
    use crate::run::RunError;

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

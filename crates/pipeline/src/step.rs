//! The operators of a pipeline file: their names, their settings, and how each is applied to a
//! flow.
//!
//! Each operator has its own file. To add one, write its file and list it in [`BUILT_IN`].

mod accumulate;
mod adaptive_window;
mod branch;
mod buffer;
mod collect;
mod combine_latest;
mod delay;
mod detach;
mod feedback;
mod filter;
mod flatten;
mod fold;
mod frequencies;
mod inspect;
mod latest;
mod len;
mod map;
mod map_async;
mod map_batch;
mod partition;
mod partition_unique;
mod pluck;
mod rate_limit;
mod scan;
mod slice;
mod sliding_window;
mod split;
mod starmap;
mod tap;
mod timed_window;
mod timed_window_unique;
mod union;
mod unique;
mod zip;
mod zip_latest;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use forebay_stream::{AdaptiveWindow, Batches, Failure, Flow};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Problem;
use crate::file::{self, Count, Interval};
use crate::jq::Jq;
use crate::json::Json;

pub(crate) use branch::Branch;
pub(crate) use collect::Collect;
pub(crate) use feedback::Feedback;
pub(crate) use map_batch::{Call, MapBatch, call};
use partition_unique::PartitionUnique;
use sliding_window::SlidingWindow;
pub(crate) use split::Split;
pub(crate) use tap::Tap;
use timed_window_unique::TimedWindowUnique;

/// A step's operator, by the types of its inputs and outputs.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// Takes values and gives values. Batches arrive as arrays.
    Values(Arc<dyn OnValues>),
    /// Takes values and gives batches.
    Window(Arc<dyn Window>),
    /// Takes batches or arrays, and gives values.
    Batches(Arc<dyn OnBatches>),
    /// Takes several flows of values, and gives one.
    Join(Arc<dyn Join>),
    /// Takes values and a flow of signals, and gives batches.
    Collect(Collect),
    /// Passes batches through a model or an expression.
    MapBatch(MapBatch),
    /// Passes values on, and keeps the last ones for display.
    Tap(Tap),
    /// Passes each value on to one of two outputs.
    Split(Split),
    /// Passes every value on to all its takers.
    Branch(Branch),
    /// Sends values back to an earlier step.
    Feedback(Feedback),
}

/// The properties of an operator that decide where it may stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Whether a result depends on more than one input value, because the operator combines values
    /// or remembers earlier ones. Exactly-once delivery refuses such operators.
    pub(crate) of_several: bool,
    /// The most values that the operator may hold for an unlimited time; `None` if their number is
    /// unbounded.
    pub(crate) keeps: Option<usize>,
}

impl Nature {
    /// Each result depends on one value, and values pass through.
    pub(crate) const EACH: Self = Self { of_several: false, keeps: Some(0) };
    /// A result depends on several values.
    pub(crate) const SEVERAL: Self = Self { of_several: true, keeps: Some(0) };
}

impl Operator {
    pub(crate) fn nature(&self) -> Nature {
        match self {
            Self::Values(operator) => operator.nature(),
            Self::Window(window) => window.nature(),
            Self::Batches(operator) => operator.nature(),
            Self::Join(join) => join.nature(),
            Self::Collect(collect) => {
                Nature { keeps: Some(collect.max_size.get().get()), ..Nature::EACH }
            }
            Self::MapBatch(_)
            | Self::Tap(_)
            | Self::Split(_)
            | Self::Branch(_)
            | Self::Feedback(_) => Nature::EACH,
        }
    }
}

/// An operator on single values.
pub(crate) trait OnValues: fmt::Debug + Send + Sync + 'static {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json>;

    fn nature(&self) -> Nature;
}

/// An operator that gathers values into batches.
pub(crate) trait Window: fmt::Debug + Send + Sync + 'static {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json>;

    /// Returns the limits of an adaptive window whose batches are chosen by token counts if the
    /// next step calls a text model; `None` for any other window.
    fn limits(&self) -> Option<AdaptiveWindow> {
        None
    }

    /// Returns the setting that needs a text model as the next step, if the file has it, with its
    /// place in the file.
    fn text_only_setting(&self) -> Option<(&'static str, Range<usize>)> {
        None
    }

    /// Returns the largest number of values in a batch.
    fn max_size(&self) -> NonZeroUsize;

    fn nature(&self) -> Nature;
}

/// An operator that turns batches, or arrays, into single values.
pub(crate) trait OnBatches: fmt::Debug + Send + Sync + 'static {
    fn of_batches(&self, batches: Batches<Json>) -> Flow<Json>;

    fn of_arrays(&self, flow: Flow<Json>) -> Flow<Json>;

    fn nature(&self) -> Nature;
}

/// An operator that makes one flow of several.
pub(crate) trait Join: fmt::Debug + Send + Sync + 'static {
    /// Joins the flows, each with its name in the file. The operators that do it get the name
    /// `name`.
    fn apply(&self, first: NamedFlow, rest: Vec<NamedFlow>, name: &str) -> Flow<Json>;

    /// Returns whether the operator passes on each value by itself, so that it may begin a loop.
    fn merges(&self) -> bool {
        false
    }

    fn nature(&self) -> Nature;

    /// Returns the smallest number of flows that the operator joins.
    fn min_inputs(&self) -> usize {
        2
    }

    /// Checks the settings against the names of the joined flows.
    fn check(&self, _from: &[String]) -> Result<(), Problem> {
        Ok(())
    }
}

/// A flow that a join takes.
pub(crate) struct NamedFlow {
    pub(crate) name: String,
    pub(crate) flow: Flow<Json>,
}

/// Parses an operator's settings.
type Parse = fn(Spanned<DeValue<'_>>) -> Result<Operator, Problem>;

/// Every operator that a step can name, in alphabetical order.
pub(crate) const BUILT_IN: &[(&str, Parse)] = &[
    ("accumulate", |value| values(table::<accumulate::Accumulate>(value))),
    ("adaptive_window", |value| window(table::<adaptive_window::AdaptiveWindow>(value))),
    ("branch", |value| table(value).map(Operator::Branch)),
    ("buffer", |value| values(table_or_value::<buffer::Buffer, Count>(value))),
    ("collect", |value| table(value).map(Operator::Collect)),
    ("combine_latest", |value| join(table::<combine_latest::CombineLatest>(value))),
    ("delay", |value| values(table_or_value::<delay::Delay, Interval>(value))),
    ("detach", |value| values(table::<detach::Detach>(value))),
    ("feedback", |value| table(value).map(Operator::Feedback)),
    ("filter", |value| values(table_or_value::<filter::Filter, Jq>(value))),
    ("flatten", |value| batches(table::<flatten::Flatten>(value))),
    ("fold", |value| batches(table::<fold::Fold>(value))),
    ("frequencies", |value| values(table::<frequencies::Frequencies>(value))),
    ("inspect", |value| values(table_or_value::<inspect::Inspect, Jq>(value))),
    ("latest", |value| values(table::<latest::Latest>(value))),
    ("len", |value| batches(table::<len::Len>(value))),
    ("map", |value| values(table_or_value::<map::Map, Jq>(value))),
    ("map_async", |value| values(table::<map_async::MapAsync>(value))),
    ("map_async_unordered", |value| values(table::<map_async::MapAsyncUnordered>(value))),
    ("map_batch", |value| table_or_value::<MapBatch, Jq>(value).map(Operator::MapBatch)),
    ("partition", |value| window(table_or_value::<partition::Partition, Count>(value))),
    ("partition_unique", |value| window(table_or_value::<PartitionUnique, Count>(value))),
    ("pluck", |value| values(table_or_value::<pluck::Pluck, pluck::Paths>(value))),
    ("rate_limit", |value| values(table_or_value::<rate_limit::RateLimit, Interval>(value))),
    ("remove", |value| values(table_or_value::<filter::Remove, Jq>(value))),
    ("scan", |value| values(table::<scan::Scan>(value))),
    ("slice", |value| values(table::<slice::Slice>(value))),
    ("sliding_window", |value| window(table_or_value::<SlidingWindow, Count>(value))),
    ("split", |value| table_or_value::<Split, Jq>(value).map(Operator::Split)),
    ("starmap", |value| values(table::<starmap::Starmap>(value))),
    ("tap", |value| table_or_value::<Tap, Count>(value).map(Operator::Tap)),
    ("timed_window", |value| window(table_or_value::<timed_window::TimedWindow, Interval>(value))),
    ("timed_window_unique", |value| window(table::<TimedWindowUnique>(value))),
    ("union", |value| join(table::<union::Union>(value))),
    ("unique", |value| values(table::<unique::Unique>(value))),
    ("zip", |value| join(table::<zip::Zip>(value))),
    ("zip_latest", |value| join(table::<zip_latest::ZipLatest>(value))),
];

type Parsed<T> = Result<T, Problem>;

/// Parses settings from a table.
fn table<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Parsed<T> {
    if !value.get_ref().is_table() {
        let kind = file::article(value.get_ref());
        let problem =
            Problem::new(format_args!("the settings must be a table, not {kind}"), value.span());
        return Err(
            problem.help("write `{ .. }`; docs/operators.md lists the settings of each operator")
        );
    }
    file::value(value)
}

/// Parses settings from a table, or from a single value in its place.
fn table_or_value<T, S>(value: Spanned<DeValue<'_>>) -> Parsed<T>
where
    T: DeserializeOwned + From<S>,
    S: DeserializeOwned,
{
    if value.get_ref().is_table() { table(value) } else { file::value::<S>(value).map(T::from) }
}

fn values(settings: Parsed<impl OnValues>) -> Parsed<Operator> {
    Ok(Operator::Values(Arc::new(settings?)))
}

fn window(settings: Parsed<impl Window>) -> Parsed<Operator> {
    Ok(Operator::Window(Arc::new(settings?)))
}

fn batches(settings: Parsed<impl OnBatches>) -> Parsed<Operator> {
    Ok(Operator::Batches(Arc::new(settings?)))
}

fn join(settings: Parsed<impl Join>) -> Parsed<Operator> {
    Ok(Operator::Join(Arc::new(settings?)))
}

/// Joins flows pair by pair into a flow of arrays.
fn fold_pairs(
    first: Flow<Json>,
    rest: impl IntoIterator<Item = Flow<Json>>,
    join: impl Fn(Flow<Json>, Flow<Json>) -> Flow<(Json, Json)>,
) -> Flow<Json> {
    let mut rest = rest.into_iter();
    let Some(second) = rest.next() else {
        return first.named("array").map(|value| Json::array([value]));
    };
    let pairs = join(first, second).named("array").map(|(left, right)| Json::array([left, right]));
    rest.fold(pairs, |arrays, next| {
        join(arrays, next).named("array").map(|(array, value)| array.pushed(value))
    })
}

/// Sets how long the next operator, a join, waits for a branch that is behind.
fn waiting(flow: Flow<Json>, wait: Option<Duration>) -> Flow<Json> {
    match wait {
        Some(wait) => flow.waiting(wait),
        None => flow,
    }
}

/// Returns the function that computes a value's key: an expression, or by default the value itself.
fn key(jq: Option<Jq>) -> impl FnMut(&Json) -> Result<Json, Failure> + Send + 'static {
    move |value| match &jq {
        Some(jq) => jq.of(value),
        None => Ok(value.clone()),
    }
}

/// Lists names for messages: `a`, `b`.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

// The operators' defaults, as docs/operators.md lists them.

const fn default_true() -> bool {
    true
}

const fn default_one() -> Count {
    Count::of(1)
}

/// Capacity of queues between steps, in values.
const fn default_queue() -> Count {
    Count::of(64)
}

/// Largest batch of windows, in values.
const fn default_window() -> Count {
    Count::of(1024)
}

/// Number of keys that stateful operators remember.
const fn default_memory() -> Count {
    Count::of(65_536)
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

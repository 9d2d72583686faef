//! Steps: what each operator is called in a pipeline file, which settings it takes, and how a flow is put through it.
//!
//! One file each. To add one, write its file and name it in [`BUILT_IN`].

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
pub(crate) mod map_batch;
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
pub(crate) mod union;
mod unique;
mod zip;
mod zip_latest;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use forebay_stream::{AdaptiveWindow, Batches, Failure, Flow};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Problem;
use crate::file::{self, Interval};
use crate::jq::Jq;
use crate::json::Json;

pub(crate) use branch::Branch;
pub(crate) use collect::Collect;
pub(crate) use feedback::Feedback;
pub(crate) use map_batch::MapBatch;
use partition_unique::PartitionUnique;
use sliding_window::SlidingWindow;
pub(crate) use split::Split;
pub(crate) use tap::Tap;
use timed_window_unique::TimedWindowUnique;

/// A step's operator, by what flows into it and out of it.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// Values in, values out. Batches come in as arrays.
    Values(Arc<dyn OnValues>),
    /// Values in, batches out.
    Window(Arc<dyn Window>),
    /// Batches in, values out; and arrays, where it says so.
    Batches(Arc<dyn OnBatches>),
    /// Several flows of values in, one out.
    Join(Arc<dyn Join>),
    /// Values and a flow of signals in, batches out.
    Collect(Collect),
    /// Batches through a model or an expression.
    MapBatch(MapBatch),
    /// Values in and out, and the last are kept to be looked at.
    Tap(Tap),
    /// Values in, and each goes one of two ways.
    Split(Split),
    /// Values in, and all go every way.
    Branch(Branch),
    /// Values in, which come out again at a step before.
    Feedback(Feedback),
}

/// An operator on single values.
pub(crate) trait OnValues: fmt::Debug + Send + Sync + 'static {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json>;
}

/// An operator that gathers values into batches.
pub(crate) trait Window: fmt::Debug + Send + Sync + 'static {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json>;

    /// The limits of a window that leaves it to the model that takes its batches how they are chosen.
    fn limits(&self) -> Option<AdaptiveWindow> {
        None
    }

    /// What in it only a text model can make sense of, and where that stands.
    fn is_for_texts(&self) -> Option<(&'static str, Range<usize>)> {
        None
    }

    /// Most values in one batch.
    fn max_size(&self) -> NonZeroUsize;

    /// Most values that it may keep for any length of time; `None` where there is no such number.
    fn keeps(&self) -> Option<usize>;
}

/// An operator that makes single values of batches, or of arrays.
pub(crate) trait OnBatches: fmt::Debug + Send + Sync + 'static {
    fn of_batches(&self, batches: Batches<Json>) -> Flow<Json>;

    fn of_arrays(&self, flow: Flow<Json>) -> Flow<Json>;
}

/// An operator that makes one flow of several.
pub(crate) trait Join: fmt::Debug + Send + Sync + 'static {
    /// The joined flow, whose operators are called `name`; `from` names the steps that the flows come from. `None`
    /// where there are no flows.
    fn apply(&self, flows: Vec<Flow<Json>>, name: &str, from: &[String]) -> Option<Flow<Json>>;

    /// How many flows it needs.
    fn fewest(&self) -> usize {
        2
    }

    /// Fails where the settings do not fit the steps that are joined.
    fn check(&self, _from: &[String]) -> Result<(), Problem> {
        Ok(())
    }
}

/// Reads an operator's settings.
type Parse = fn(Spanned<DeValue<'_>>) -> Result<Operator, Problem>;

/// Every operator that a step can name, in alphabetical order.
pub(crate) const BUILT_IN: &[(&str, Parse)] = &[
    ("accumulate", |value| values(table::<accumulate::Accumulate>(value))),
    ("adaptive_window", |value| window(table::<adaptive_window::AdaptiveWindow>(value))),
    ("branch", |value| table(value).map(Operator::Branch)),
    ("buffer", |value| values(short::<buffer::Buffer, NonZeroUsize>(value))),
    ("collect", |value| table(value).map(Operator::Collect)),
    ("combine_latest", |value| join(table::<combine_latest::CombineLatest>(value))),
    ("delay", |value| values(short::<delay::Delay, Interval>(value))),
    ("detach", |value| values(table::<detach::Detach>(value))),
    ("feedback", |value| table(value).map(Operator::Feedback)),
    ("filter", |value| values(short::<filter::Filter, Jq>(value))),
    ("flatten", |value| batches(table::<flatten::Flatten>(value))),
    ("fold", |value| batches(table::<fold::Fold>(value))),
    ("frequencies", |value| values(table::<frequencies::Frequencies>(value))),
    ("inspect", |value| values(short::<inspect::Inspect, Jq>(value))),
    ("latest", |value| values(table::<latest::Latest>(value))),
    ("len", |value| batches(table::<len::Len>(value))),
    ("map", |value| values(short::<map::Map, Jq>(value))),
    ("map_async", |value| values(table::<map_async::MapAsync>(value))),
    ("map_async_unordered", |value| values(table::<map_async::MapAsyncUnordered>(value))),
    ("map_batch", |value| short::<MapBatch, Jq>(value).map(Operator::MapBatch)),
    ("partition", |value| window(short::<partition::Partition, NonZeroUsize>(value))),
    ("partition_unique", |value| window(short::<PartitionUnique, NonZeroUsize>(value))),
    ("pluck", |value| values(short::<pluck::Pluck, pluck::Paths>(value))),
    ("rate_limit", |value| values(short::<rate_limit::RateLimit, Interval>(value))),
    ("remove", |value| values(short::<filter::Remove, Jq>(value))),
    ("scan", |value| values(table::<scan::Scan>(value))),
    ("slice", |value| values(table::<slice::Slice>(value))),
    ("sliding_window", |value| window(short::<SlidingWindow, NonZeroUsize>(value))),
    ("split", |value| short::<Split, Jq>(value).map(Operator::Split)),
    ("starmap", |value| values(table::<starmap::Starmap>(value))),
    ("tap", |value| short::<Tap, NonZeroUsize>(value).map(Operator::Tap)),
    ("timed_window", |value| window(short::<timed_window::TimedWindow, Interval>(value))),
    ("timed_window_unique", |value| window(table::<TimedWindowUnique>(value))),
    ("union", |value| join(table::<union::Union>(value))),
    ("unique", |value| values(table::<unique::Unique>(value))),
    ("zip", |value| join(table::<zip::Zip>(value))),
    ("zip_latest", |value| join(table::<zip_latest::ZipLatest>(value))),
];

type Parsed<T> = Result<T, Problem>;

/// Settings that are a table.
fn table<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Parsed<T> {
    if !value.get_ref().is_table() {
        let kind = file::article(value.get_ref());
        let problem =
            Problem::new(format_args!("the settings are a table, not {kind}"), value.span());
        return Err(
            problem.help("such as `{ .. }`; docs/operators.md shows what each operator takes")
        );
    }
    file::value(value)
}

/// Settings that are a table, or a single value that stands for one.
fn short<T, S>(value: Spanned<DeValue<'_>>) -> Parsed<T>
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

/// Joins flows two by two into one of arrays.
fn fold_pairs(
    flows: Vec<Flow<Json>>,
    join: impl Fn(Flow<Json>, Flow<Json>) -> Flow<(Json, Json)>,
) -> Option<Flow<Json>> {
    let mut flows = flows.into_iter();
    let first = flows.next()?;
    let Some(second) = flows.next() else {
        return Some(first.named("array").map(|value| Json::array([value])));
    };
    let pairs = join(first, second).named("array").map(|(left, right)| Json::array([left, right]));
    Some(flows.fold(pairs, |arrays, next| {
        join(arrays, next).named("array").map(|(array, value)| array.pushed(value))
    }))
}

/// What tells values apart: an expression of them, or else they themselves.
fn key(jq: Option<Jq>) -> impl FnMut(&Json) -> Result<Json, Failure> + Send + 'static {
    move |value| match &jq {
        Some(jq) => jq.of(value),
        None => Ok(value.clone()),
    }
}

/// `a`, `b` and so on, for messages.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

// Defaults; docs/operators.md names them.

const fn default_true() -> bool {
    true
}

const fn default_one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// Of queues between steps.
const fn default_queue() -> NonZeroUsize {
    NonZeroUsize::new(64).expect("64 is not zero")
}

/// Of windows.
const fn default_window() -> NonZeroUsize {
    NonZeroUsize::new(1024).expect("1024 is not zero")
}

/// Of what is remembered.
const fn default_memory() -> NonZeroUsize {
    NonZeroUsize::new(65_536).expect("65536 is not zero")
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

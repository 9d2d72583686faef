//! The syntax of the pipeline file: its tables, and their keys.
//!
//! Only the form of the tables is checked here. `plan::resolve` checks their meaning, and turns
//! them into a [`Plan`](crate::Plan).

mod deadline;
mod delivery;
mod model;
mod names;
mod number;
mod options;

use std::ops::Range;

use serde::de;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

use crate::diagnostic::{Places, Problem, nearest};

pub(crate) use deadline::DeadlineTable;
pub(crate) use delivery::{
    BreakerTable, DeadLetterTable, Delivery, OnFailureTable, Order, Policy, RetryTable,
    TransactionsTable,
};
pub(crate) use model::ModelTable;
pub(crate) use names::OneOrMore;
pub(crate) use number::{AtMost, Bytes, Count, Interval, Parallelism, duration};
pub(crate) use options::OptionsTable;

/// The root of a pipeline file.
pub(crate) struct PipelineFile<'i> {
    /// The pipeline's name, for logs.
    pub(crate) name: Option<String>,
    /// The longest time that a stopped pipeline takes to answer the requests in flight.
    pub(crate) shutdown_timeout: Option<Interval>,
    /// The time after which a run ends by itself, so that a supervisor starts it again.
    pub(crate) max_lifetime: Option<Interval>,
    /// The delivery guarantee.
    pub(crate) delivery: Option<Spanned<Delivery>>,
    /// The order of answers.
    pub(crate) order: Option<Spanned<Order>>,
    /// The settings of transactions.
    pub(crate) transactions: Option<Placed<TransactionsTable>>,
    /// The handling of requests that fail.
    pub(crate) on_failure: Option<Placed<OnFailureTable>>,
    /// The sources: `[source.KIND]`, or `[[source.KIND]]` for several of one kind.
    pub(crate) sources: Vec<Entry<'i>>,
    /// The steps: `[[step]]`.
    pub(crate) steps: Vec<Entry<'i>>,
    /// The sinks: `[sink.KIND]`, or `[[sink.KIND]]`.
    pub(crate) sinks: Vec<Entry<'i>>,
    /// The models that steps name: `[model.NAME]`.
    pub(crate) models: Vec<Entry<'i>>,
    /// The headers that hold deadlines: `[deadline]`.
    pub(crate) deadline: Option<DeadlineTable>,
}

/// The table of a source, a step, a sink or a model.
pub(crate) struct Entry<'i> {
    /// The kind of a source or sink, the operator of a step, or the name of a model.
    pub(crate) key: Spanned<String>,
    pub(crate) settings: Spanned<DeValue<'i>>,
    /// The name that other tables use in `from`.
    pub(crate) name: Option<Spanned<String>>,
    /// The names of the steps or sources that it takes from. `None` means the step before it, or
    /// the source.
    pub(crate) from: Option<Vec<Spanned<String>>>,
    /// The byte range of the table in the file's text.
    pub(crate) span: Range<usize>,
}

type Table<'i> = Spanned<DeTable<'i>>;

pub(crate) fn read(file: Table<'_>) -> Result<PipelineFile<'_>, Problem> {
    const TABLES: [&str; 12] = [
        "name",
        "shutdown_timeout",
        "max_lifetime",
        "delivery",
        "order",
        "transactions",
        "deadline",
        "on_failure",
        "source",
        "step",
        "sink",
        "model",
    ];
    let mut tables = file.into_inner();
    let name = tables.remove("name").map(value).transpose()?;
    let shutdown_timeout = tables.remove("shutdown_timeout").map(value).transpose()?;
    let max_lifetime = tables.remove("max_lifetime").map(value).transpose()?;
    let delivery = tables.remove("delivery").map(spanned).transpose()?;
    let order = tables.remove("order").map(spanned).transpose()?;
    let transactions = tables.remove("transactions").map(placed).transpose()?;
    let on_failure = tables.remove("on_failure").map(placed).transpose()?;
    let sources = tables.remove("source").map(kinds).transpose()?.unwrap_or_default();
    let steps = tables.remove("step").map(steps).transpose()?.unwrap_or_default();
    let sinks = tables.remove("sink").map(kinds).transpose()?.unwrap_or_default();
    let models = tables.remove("model").map(entries).transpose()?.unwrap_or_default();
    let deadline = tables.remove("deadline").map(value).transpose()?;
    if let Some((key, _)) = tables.into_iter().next() {
        return Err(unknown("table", key.get_ref(), key.span(), TABLES));
    }
    Ok(PipelineFile {
        name,
        shutdown_timeout,
        max_lifetime,
        delivery,
        order,
        transactions,
        on_failure,
        sources,
        steps,
        sinks,
        models,
        deadline,
    })
}

/// Deserialises a value, and keeps its span.
fn spanned<T: de::DeserializeOwned>(of: Spanned<DeValue<'_>>) -> Result<Spanned<T>, Problem> {
    let span = of.span();
    Ok(Spanned::new(span, value(of)?))
}

/// A table's value, and the places of its keys.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) places: Places,
}

/// Deserialises a table, and keeps the places of its keys.
pub(crate) fn placed<T: de::DeserializeOwned>(
    of: Spanned<DeValue<'_>>,
) -> Result<Placed<T>, Problem> {
    let places = Places::of(&of);
    Ok(Placed { value: value(of)?, places })
}

/// Deserialises a value. An error that has no place in the file gets the place of the value.
pub(crate) fn value<T: de::DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<T, Problem> {
    let span = value.span();
    T::deserialize(ValueDeserializer::from(value)).map_err(|error| Problem::from(error).at(span))
}

/// Creates the problem of an unknown name. The help suggests the most similar known name, or lists
/// all known names if none is similar.
pub(crate) fn unknown<'a>(
    what: &str,
    name: &str,
    span: Range<usize>,
    known: impl IntoIterator<Item = &'a str>,
) -> Problem {
    let known: Vec<&str> = known.into_iter().collect();
    let help = if let Some(nearest) = nearest(name, &known) {
        format!("did you mean `{nearest}`?")
    } else {
        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        format!("there are {}", known.join(", "))
    };
    Problem::new(format_args!("there is no {what} `{name}`"), span).help(help)
}

fn into_table(value: Spanned<DeValue<'_>>) -> Result<Table<'_>, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Spanned::new(span, table)),
        other => {
            let message = format_args!("a table is needed, not {}", article(&other));
            Err(Problem::new(message, span).help(
                "write it with its kind or name in brackets, such as `[source.kafka]` or `[model.m]`",
            ))
        }
    }
}

/// Names the type of a value with an article, such as `an array`.
pub(crate) fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        name @ ("integer" | "array") => format!("an {name}"),
        name => format!("a {name}"),
    }
}

/// Reads the tables `[source.KIND]` and `[[source.KIND]]`, or those of sinks.
fn kinds(value: Spanned<DeValue<'_>>) -> Result<Vec<Entry<'_>>, Problem> {
    let mut kinds = Vec::new();
    for (key, value) in into_table(value)?.into_inner() {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(values) => {
                for value in values {
                    kinds.push(entry(key.clone(), value)?);
                }
            }
            value => kinds.push(entry(key, Spanned::new(span, value))?),
        }
    }
    // Restores the order of the file, because the parser sorts tables by their keys.
    kinds.sort_by_key(|entry| entry.span.start);
    Ok(kinds)
}

/// Reads the tables `[model.NAME]`.
fn entries(value: Spanned<DeValue<'_>>) -> Result<Vec<Entry<'_>>, Problem> {
    let tables = into_table(value)?.into_inner();
    Ok(tables.into_iter().map(|(key, value)| entry_of(key, value, None, None)).collect())
}

/// Reads the tables `[[step]]`: each has one operator, and optionally `name` and `from`.
fn steps(value: Spanned<DeValue<'_>>) -> Result<Vec<Entry<'_>>, Problem> {
    let span = value.span();
    let DeValue::Array(steps) = value.into_inner() else {
        return Err(Problem::new("steps are written `[[step]]`, each with one operator", span));
    };
    steps.into_iter().map(step).collect()
}

fn step(value: Spanned<DeValue<'_>>) -> Result<Entry<'_>, Problem> {
    let span = value.span();
    let mut table = into_table(value)?.into_inner();
    let name = name(&mut table)?;
    let from = from(&mut table)?;
    let mut rest: Vec<_> = table.into_iter().collect();
    rest.sort_by_key(|(key, _)| key.span().start);
    let mut rest = rest.into_iter();
    let (Some((key, settings)), second) = (rest.next(), rest.next()) else {
        let problem = Problem::new("a step needs an operator", span);
        return Err(problem
            .help("add one, such as `map = \".text\"`; docs/operators.md lists all operators"));
    };
    if let Some((second, _)) = second {
        let problem = Problem::new(
            format_args!("a step has one operator, and this one has `{}` too", second.get_ref()),
            second.span(),
        );
        return Err(problem.help("give it its own `[[step]]`"));
    }
    let mut step = entry_of(key, settings, name, from);
    step.span = span;
    Ok(step)
}

fn entry<'i>(
    key: Spanned<DeString<'i>>,
    settings: Spanned<DeValue<'i>>,
) -> Result<Entry<'i>, Problem> {
    let span = settings.span();
    let mut table = into_table(settings)?.into_inner();
    let name = name(&mut table)?;
    let from = from(&mut table)?;
    Ok(entry_of(key, Spanned::new(span, DeValue::Table(table)), name, from))
}

fn entry_of<'i>(
    key: Spanned<DeString<'i>>,
    settings: Spanned<DeValue<'i>>,
    name: Option<Spanned<String>>,
    from: Option<Vec<Spanned<String>>>,
) -> Entry<'i> {
    let span = settings.span();
    let place = key.span();
    let key = Spanned::new(place, key.into_inner().into_owned());
    Entry { key, settings, name, from, span }
}

fn name(table: &mut DeTable<'_>) -> Result<Option<Spanned<String>>, Problem> {
    table.remove("name").map(name_of).transpose()
}

/// Reads a name that steps and sinks may use in `from`.
pub(crate) fn name_of(name: Spanned<DeValue<'_>>) -> Result<Spanned<String>, Problem> {
    let name = value::<Spanned<String>>(name)?;
    if name.get_ref().is_empty() || name.get_ref().contains('.') {
        let problem = Problem::new("a name must not be empty or contain a dot", name.span());
        return Err(problem.help("`NAME.true` and `NAME.false` are the outputs of a `split`"));
    }
    Ok(name)
}

/// Removes `from = "a"` or `from = ["a", "b"]` from a table, and returns the names.
fn from(table: &mut DeTable<'_>) -> Result<Option<Vec<Spanned<String>>>, Problem> {
    let Some(from) = table.remove("from") else { return Ok(None) };
    let span = from.span();
    let OneOrMore(names) = match from.get_ref() {
        DeValue::String(_) | DeValue::Array(_) => value(from)?,
        _ => return Err(Problem::new("`from` is a name, or a list of names", span)),
    };
    if names.is_empty() {
        return Err(Problem::new("`from` is empty", span));
    }
    Ok(Some(names))
}

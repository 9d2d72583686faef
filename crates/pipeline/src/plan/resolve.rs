//! Validates the tables of a pipeline file, and turns them into a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use super::commits::Commits;
use super::inputs::{check_all_used, check_inputs};
use super::shapes::Shapes;
use super::wiring::{Draft, Names, Wiring};
use super::{Plan, Port, SinkPlan, StepPlan, delivery, ends, exactly_once, models};
use crate::deadline::Deadlines;
use crate::diagnostic::Problem;
use crate::file::{self, DeadlineTable, Entry, PipelineFile};
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::sink::AnySink;
use crate::source::{self, AnySource, CommittedSource};
use crate::step::{BUILT_IN, Operator};

/// The default of `shutdown_timeout`: shorter than the 30 s after which Kubernetes kills a pod that
/// it has asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

pub(super) fn resolve(file: PipelineFile<'_>, registry: &Registry) -> Result<Plan, Problem> {
    let models: Vec<_> = file.models.iter().map(|model| model.key.get_ref().clone()).collect();
    let drafts: Vec<_> = file
        .steps
        .into_iter()
        .map(|step| draft(step, registry, &models))
        .collect::<Result<_, _>>()?;
    if file.sources.is_empty() {
        return Err(missing("source", "[source.stdin]"));
    }
    if file.sinks.is_empty() {
        return Err(missing("sink", "[sink.stdout]"));
    }

    let committed = committed_names(&file.sources)?;
    let names = Names::new(&file.sources, &committed, &drafts)?;
    let inputs: Vec<_> =
        (0..drafts.len()).map(|step| names.inputs(step)).collect::<Result<_, _>>()?;
    let flushes: Vec<Option<Port>> = drafts
        .iter()
        .map(|draft| match &draft.operator {
            Operator::Collect(collect) => {
                collect.flush.as_ref().map(|name| Ok(names.named(name)?.0)).transpose()
            }
            _ => Ok(None),
        })
        .collect::<Result<_, Problem>>()?;
    let sink_inputs: Vec<Port> =
        file.sinks.iter().map(|sink| names.sink_input(sink)).collect::<Result<_, _>>()?;
    drop(names);
    for (draft, inputs) in drafts.iter().zip(&inputs) {
        check_inputs(draft, inputs, &drafts)?;
    }

    let wiring = Wiring { drafts: &drafts, inputs: &inputs, flushes: &flushes };
    let loops = wiring.loops()?;
    for looping in &loops {
        wiring.check_exits(looping, &sink_inputs)?;
        for &step in &looping.inside {
            check_ends_by_itself(&drafts[step], "inside a loop")?;
        }
    }
    let order = wiring.order(&loops)?;
    let tables = file.sources.len();
    let commits = Commits { drafts: &drafts, inputs: &inputs, flushes: &flushes, tables };
    let of_commits = commits.steps(&order)?;

    let used: Vec<Port> = inputs
        .iter()
        .flatten()
        .map(|(port, _)| *port)
        .chain(flushes.iter().flatten().copied())
        .chain(sink_inputs.iter().copied())
        .collect();
    check_all_used(&file.sources, &committed, &drafts, &used)?;

    let mut sources: Vec<_> = file
        .sources
        .into_iter()
        .map(|entry| ends::source(entry, registry))
        .collect::<Result<_, _>>()?;
    check_sources(&sources)?;
    let commits = |port: Port| commits.is_of_commits(port, &of_commits);
    let sinks = sinks(file.sinks, sink_inputs, &sources, registry, commits)?;
    let ends: Vec<_> = sinks.iter().map(|sink| sink.sink.clone()).collect();
    let of_answers: Vec<_> =
        sinks.iter().filter(|sink| !sink.of_commits).map(|sink| sink.sink.clone()).collect();
    if delivery::delivery(file.delivery, file.transactions, &mut sources, &of_answers)? {
        let of_commits = &of_commits;
        exactly_once::Steps { drafts: &drafts, inputs: &inputs, used: &used, of_commits }
            .check()?;
    }
    let on_failure = delivery::on_failure(file.on_failure, &mut sources, &ends)?;
    if on_failure.retry.is_some() {
        // A window without a timeout waits for the end of the flow, and the flow does not end while
        // the retry waits for the window's events.
        drafts.iter().try_for_each(|draft| check_ends_by_itself(draft, "behind a `retry`"))?;
    }
    let order_of_answers = delivery::order(file.order, &sources, &of_answers)?;
    let mut models = file
        .models
        .into_iter()
        .map(|entry| Ok((entry.key.get_ref().clone(), models::model(entry, registry)?)))
        .collect::<Result<BTreeMap<_, _>, Problem>>()?;

    Shapes { drafts: &drafts, inputs: &inputs, used: &used, models: &mut models }.check(&order)?;
    let of_requests = drafts.iter().zip(&of_commits).filter(|(_, of_commits)| !**of_commits);
    check_in_flight(of_requests.map(|(draft, _)| draft), &sources)?;
    let committed = committed_sources(&sources);
    sources.extend(committed);

    let step = |(number, draft)| {
        StepPlan::new(number, draft, &inputs[number], flushes[number], &loops, &drafts)
    };
    let steps = drafts.iter().enumerate().map(step).collect();
    Ok(Plan {
        name: file.name.unwrap_or_else(|| "forebay".to_owned()),
        order_of_answers,
        on_failure,
        max_lifetime: file.max_lifetime.map(|lifetime| lifetime.0),
        shutdown_timeout: file.shutdown_timeout.map_or(SHUTDOWN_TIMEOUT, |timeout| timeout.0),
        sources,
        steps,
        sinks,
        models,
        order,
        deadlines: file.deadline.map_or_else(|| Ok(Deadlines::default()), deadlines)?,
        secrets: Secrets::default(),
    })
}

/// Returns the names that Kafka sources give their committed offsets.
fn committed_names(sources: &[Entry<'_>]) -> Result<Vec<Spanned<String>>, Problem> {
    let kafka = sources.iter().filter(|source| source.key.get_ref() == "kafka");
    let names = kafka.map(|source| source::kafka::committed(source.settings.get_ref()));
    names.filter_map(Result::transpose).collect()
}

/// Returns the sources of the committed offsets that have a name, in the order of their names.
fn committed_sources(sources: &[AnySource]) -> Vec<AnySource> {
    let named = sources.iter().enumerate().filter_map(|(of, source)| match source {
        AnySource::Kafka(kafka) if kafka.has_committed => Some((of, &kafka.config.topic)),
        _ => None,
    });
    named
        .map(|(of, topic)| CommittedSource { of: Some(of), topic: topic.clone() })
        .map(AnySource::Committed)
        .collect()
}

/// Resolves the sinks. `is_of_commits` tells whether a port gives committed offsets.
fn sinks(
    entries: Vec<Entry<'_>>,
    inputs: Vec<Port>,
    sources: &[AnySource],
    registry: &Registry,
    is_of_commits: impl Fn(Port) -> bool,
) -> Result<Vec<SinkPlan>, Problem> {
    let sink = |(entry, from): (Entry<'_>, Port)| {
        let span = entry.span.clone();
        let sink = ends::sink(entry, sources, registry)?;
        let of_commits = is_of_commits(from);
        if of_commits && matches!(sink, AnySink::Http(_)) {
            let message = "the HTTP sink answers requests, and committed offsets are none";
            return Err(Problem::new(message, span).help("give them a sink of another kind"));
        }
        Ok(SinkPlan { from, sink, of_commits })
    };
    entries.into_iter().zip(inputs).map(sink).collect()
}

fn deadlines(table: DeadlineTable) -> Result<Deadlines, Problem> {
    let mut deadlines = Deadlines::default();
    let headers = [
        (&mut deadlines.header, table.header),
        (&mut deadlines.timeout_header, table.timeout_header),
    ];
    for (header, given) in headers {
        let Some(given) = given else { continue };
        if given.get_ref().is_empty() {
            return Err(Problem::new("a header's name must not be empty", given.span()));
        }
        *header = given.into_inner();
    }
    Ok(deadlines)
}

fn missing(what: &str, example: &str) -> Problem {
    Problem::anywhere(format_args!("there is no {what}"))
        .help(format_args!("add one, such as `{example}`"))
}

/// Refuses several sources of a kind that can exist only once.
fn check_sources(sources: &[AnySource]) -> Result<(), Problem> {
    let count = |kind: fn(&AnySource) -> bool| sources.iter().filter(|source| kind(source)).count();
    if count(|source| matches!(source, AnySource::Stdin(_))) > 1 {
        return Err(Problem::anywhere("standard input can be read by one source only"));
    }
    if count(|source| matches!(source, AnySource::Http(_))) > 1 {
        return Err(Problem::anywhere("there can be one HTTP source only"));
    }
    Ok(())
}

fn draft(entry: Entry<'_>, registry: &Registry, models: &[String]) -> Result<Draft, Problem> {
    let Entry { key, settings, name, from, span } = entry;
    let kind = key.get_ref().clone();
    let model = settings.get_ref().as_str().filter(|text| models.iter().any(|name| name == text));
    let model = model.filter(|_| kind == "map_batch").map(str::to_owned);
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == kind).map(|(_, parse)| parse);
    let operator = match built_in {
        Some(parse) => parse(settings).map_err(|problem| match model {
            Some(name) => problem.help(format_args!(
                "to call the model, write `map_batch = {{ model = \"{name}\" }}`"
            )),
            None => problem,
        })?,
        None => registry.parse_step(&kind, settings).unwrap_or_else(|| {
            let known = BUILT_IN.iter().map(|(name, _)| *name).chain(registry.steps());
            Err(file::unknown("operator", &kind, key.span(), known))
        })?,
    };
    Ok(Draft { operator, kind, registered: built_in.is_none(), name, from, span })
}

/// Refuses an operator that holds values until the end of the flow, in a place in which the flow
/// cannot end while the operator holds values. There are two: a loop ends only when no value is
/// inside it, and a flow behind a retry only when no request is in flight.
fn check_ends_by_itself(draft: &Draft, place: &str) -> Result<(), Problem> {
    if draft.operator.nature().keeps == Some(0) {
        return Ok(());
    }
    let message =
        format_args!("`{}` waits for the end of the flow, which never comes {place}", draft.kind);
    Err(Problem::new(message, draft.span.clone()).help("use a window with a timeout"))
}

/// Checks that each source's `max_in_flight` is large enough to fill all windows without a timeout.
/// Otherwise the windows would wait for further requests, and the source for answers.
fn check_in_flight<'a>(
    drafts: impl Iterator<Item = &'a Draft>,
    sources: &[AnySource],
) -> Result<(), Problem> {
    let bounds = sources.iter().filter_map(|source| match source {
        AnySource::Kafka(kafka) => Some(kafka.config.max_in_flight.get()),
        AnySource::Http(http) => Some(http.config.max_in_flight.get()),
        _ => None,
    });
    let Some(bound) = bounds.min() else { return Ok(()) };
    let mut kept = 0_usize;
    for draft in drafts {
        let Some(keeps) = draft.operator.nature().keeps else {
            let problem = Problem::new(
                "batches by key may never be full without a `timeout`",
                draft.span.clone(),
            );
            return Err(problem.help("set a `timeout`: the source may reach its `max_in_flight` before any batch is full"));
        };
        kept = kept.saturating_add(keeps);
        if kept > bound {
            let message =
                "windows without a `timeout` hold more values than the source's `max_in_flight`";
            let problem = Problem::new(message, draft.span.clone());
            return Err(
                problem.help("a window may never be full: lower its `size`, or set a `timeout`")
            );
        }
    }
    Ok(())
}

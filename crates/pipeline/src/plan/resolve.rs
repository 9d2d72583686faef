//! Validates the tables of a pipeline file, and turns them into a plan.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::wiring::{Draft, Names, Wiring};
use super::{
    ModelPlan, NodeRef, Output, Plan, Port, SinkPlan, SourcePlan, StepPlan, delivery, ends, models,
};
use crate::deadline::Deadlines;
use crate::diagnostic::Problem;
use crate::file::{self, DeadlineTable, Entry, PipelineFile};
use crate::registry::Registry;
use crate::step::map_batch::MapBatch;
use crate::step::{BUILT_IN, Operator};

/// The largest batch that models are warmed up for.
const MAX_BATCH: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");

/// The default of `shutdown_timeout`: shorter than the 30 s after which Kubernetes kills a pod that
/// it has asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

pub(super) fn resolve(file: PipelineFile<'_>, registry: &Registry) -> Result<Plan, Problem> {
    let drafts: Vec<_> =
        file.steps.into_iter().map(|step| draft(step, registry)).collect::<Result<_, _>>()?;
    if file.sources.is_empty() {
        return Err(missing("source", "[source.stdin]"));
    }
    if file.sinks.is_empty() {
        return Err(missing("sink", "[sink.stdout]"));
    }

    let names = Names::new(&file.sources, &drafts)?;
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

    let used: Vec<Port> = inputs
        .iter()
        .flatten()
        .map(|(port, _)| *port)
        .chain(flushes.iter().flatten().copied())
        .chain(sink_inputs.iter().copied())
        .collect();
    check_all_used(&file.sources, &drafts, &used)?;

    let mut sources: Vec<_> = file
        .sources
        .into_iter()
        .map(|entry| ends::source(entry, registry))
        .collect::<Result<_, _>>()?;
    check_sources(&sources)?;
    let sinks: Vec<_> = file
        .sinks
        .into_iter()
        .zip(sink_inputs)
        .map(|(entry, from)| Ok(SinkPlan { from, end: ends::sink(entry, &sources, registry)? }))
        .collect::<Result<_, Problem>>()?;
    let ends: Vec<_> = sinks.iter().map(|sink| sink.end.clone()).collect();
    delivery::delivery(file.delivery, file.transactions, &drafts, &mut sources, &ends)?;
    let on_failure = delivery::on_failure(file.on_failure, &mut sources, &ends)?;
    if on_failure.retry.is_some() {
        // A window without a timeout waits for the end of the flow, and the flow does not end while
        // the retry waits for the window's events.
        drafts.iter().try_for_each(|draft| check_ends_by_itself(draft, "behind a `retry`"))?;
    }
    let order_of_answers = delivery::order(file.order, &sources, &ends)?;
    let mut models = file
        .models
        .into_iter()
        .map(|entry| Ok((entry.key.get_ref().clone(), models::model(entry, registry)?)))
        .collect::<Result<BTreeMap<_, _>, Problem>>()?;

    Shapes { drafts: &drafts, inputs: &inputs, used: &used, models: &mut models }.check(&order)?;
    check_in_flight(&drafts, &sources)?;

    let steps = drafts.into_iter().zip(inputs).zip(flushes);
    let steps = steps.map(|((draft, from), flush)| StepPlan {
        name: draft.name.map_or(draft.kind, Spanned::into_inner),
        operator: draft.operator,
        from,
        flush,
    });
    Ok(Plan {
        name: file.name.unwrap_or_else(|| "forebay".to_owned()),
        order_of_answers,
        on_failure,
        shutdown_timeout: file.shutdown_timeout.map_or(SHUTDOWN_TIMEOUT, |timeout| timeout.0),
        sources,
        steps: steps.collect(),
        sinks,
        models,
        order,
        loops,
        deadlines: file.deadline.map_or_else(|| Ok(Deadlines::default()), deadlines)?,
    })
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
fn check_sources(sources: &[SourcePlan]) -> Result<(), Problem> {
    let count =
        |kind: fn(&SourcePlan) -> bool| sources.iter().filter(|source| kind(source)).count();
    if count(|source| matches!(source, SourcePlan::Stdin)) > 1 {
        return Err(Problem::anywhere("standard input can be read by one source only"));
    }
    if count(|source| matches!(source, SourcePlan::Http(_))) > 1 {
        return Err(Problem::anywhere("there can be one HTTP source only"));
    }
    Ok(())
}

fn draft(entry: Entry<'_>, registry: &Registry) -> Result<Draft, Problem> {
    let Entry { key, settings, name, from, span } = entry;
    let kind = key.get_ref().clone();
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == kind).map(|(_, parse)| parse);
    let operator = match built_in {
        Some(parse) => parse(settings)?,
        None => registry.parse_step(&kind, settings).unwrap_or_else(|| {
            let known = BUILT_IN.iter().map(|(name, _)| *name).chain(registry.steps());
            Err(file::unknown("operator", &kind, key.span(), known))
        })?,
    };
    Ok(Draft { operator, kind, name, from, span })
}

/// Checks that a step gets as many flows as its operator takes.
fn check_inputs(draft: &Draft, inputs: &[(Port, String)], drafts: &[Draft]) -> Result<(), Problem> {
    let kind = &draft.kind;
    let feedback = |port: &Port| match port.node {
        NodeRef::Step(step) => matches!(drafts[step].operator, Operator::Feedback(_)),
        NodeRef::Source(_) => false,
    };
    let Operator::Join(join) = &draft.operator else {
        if inputs.len() > 1 {
            let problem = Problem::new(
                format_args!("`{kind}` takes one flow, but `from` names several"),
                draft.span.clone(),
            );
            return Err(problem.help("join them in a `union` step first"));
        }
        return Ok(());
    };
    if inputs.len() < join.min_inputs() {
        let message = format_args!("`{kind}` joins several flows, but gets only one");
        let problem = Problem::new(message, draft.span.clone());
        return Err(problem.help("name the steps or sources in `from = [\"a\", \"b\"]`"));
    }
    if inputs.iter().all(|(port, _)| feedback(port)) {
        let problem = Problem::new("only a `feedback` flows into this step", draft.span.clone());
        return Err(
            problem.help("name in `from` also the step or source whose values enter the loop")
        );
    }
    let names: Vec<_> = inputs.iter().map(|(_, name)| name.clone()).collect();
    join.check(&names).map_err(|problem| problem.at(draft.span.clone()))
}

/// Checks that every output of a source or a step is taken.
fn check_all_used(sources: &[Entry<'_>], drafts: &[Draft], used: &[Port]) -> Result<(), Problem> {
    let unused = |node, outputs: &[Output]| {
        outputs.iter().copied().find(|output| !used.contains(&Port { node, output: *output }))
    };
    let left = |what: &str, span: Range<usize>| {
        let problem = Problem::new(format_args!("no step or sink takes {what}"), span);
        Err(problem.help(
            "name it in the `from` of a step or a sink; `[sink.drop]` discards values that nobody needs",
        ))
    };
    for (number, source) in sources.iter().enumerate() {
        if unused(NodeRef::Source(number), &[Output::Only]).is_some() {
            let name = source.name.as_ref().unwrap_or(&source.key);
            return left(
                &format!("the output of the source `{}`", name.get_ref()),
                source.span.clone(),
            );
        }
    }
    for (number, draft) in drafts.iter().enumerate() {
        let outputs: &[Output] = match draft.operator {
            Operator::Split(_) => &[Output::True, Output::False],
            Operator::Feedback(_) => continue,
            _ => &[Output::Only],
        };
        let name = draft.name.as_ref().map_or(&draft.kind, |name| name.get_ref());
        match unused(NodeRef::Step(number), outputs) {
            None => {}
            Some(Output::Only) => {
                return left(&format!("the output of `{name}`"), draft.span.clone());
            }
            Some(Output::True) => return left(&format!("`{name}.true`"), draft.span.clone()),
            Some(Output::False) => return left(&format!("`{name}.false`"), draft.span.clone()),
        }
    }
    Ok(())
}

/// Checks which steps get batches and which get single values, and records the largest batch of
/// each model.
struct Shapes<'a> {
    drafts: &'a [Draft],
    inputs: &'a [Vec<(Port, String)>],
    used: &'a [Port],
    models: &'a mut BTreeMap<String, ModelPlan>,
}

impl Shapes<'_> {
    fn check(self, order: &[usize]) -> Result<(), Problem> {
        let mut called = Vec::new();
        // The size of the largest batch that leaves each step. Steps without an entry, and sources,
        // emit single values.
        let mut batches: BTreeMap<usize, NonZeroUsize> = BTreeMap::new();
        for &step in order {
            let input = match self.inputs[step].first() {
                Some((Port { node: NodeRef::Step(from), .. }, _)) => batches.get(from).copied(),
                _ => None,
            };
            let port = Port { node: NodeRef::Step(step), output: Output::Only };
            // If several steps or sinks take from this step, they get arrays instead of batches,
            // because each of them needs its own share of the receipt of every value.
            let shared = self.used.iter().filter(|used| **used == port).count() > 1;
            let draft = &self.drafts[step];
            if !matches!(draft.operator, Operator::MapBatch(_)) {
                self.check_has_tokens(step)?;
            }
            let size = match &draft.operator {
                Operator::Window(window) => Some(window.max_size()),
                Operator::Collect(collect) => Some(collect.max_size),
                Operator::MapBatch(map_batch) => {
                    let size = input.ok_or_else(|| not_batched(draft))?;
                    if !self.is_text(map_batch) {
                        self.check_has_tokens(step)?;
                    }
                    if let Some(name) = map_batch.model() {
                        call(self.models, name, size, &mut called)?;
                    }
                    None
                }
                _ => None,
            };
            if let Some(size) = size.filter(|_| !shared) {
                batches.insert(step, size);
            }
        }
        // Models that no step names are not loaded.
        self.models.retain(|name, _| called.contains(name));
        Ok(())
    }
}

impl Shapes<'_> {
    fn is_text(&self, map_batch: &MapBatch) -> bool {
        let Some(name) = map_batch.model() else { return false };
        matches!(self.models.get(name.get_ref()), Some(ModelPlan::Text(_)))
    }

    /// Refuses a window limited by tokens before a step that is not a text model: only a text model
    /// can count tokens.
    fn check_has_tokens(&self, step: usize) -> Result<(), Problem> {
        for (port, _) in &self.inputs[step] {
            if let NodeRef::Step(from) = port.node
                && let Operator::Window(window) = &self.drafts[from].operator
                && let Some((key, span)) = window.text_only_setting()
            {
                let message = format_args!(
                    "`{key}` needs a text model, which `{}` does not call",
                    self.drafts[step].kind
                );
                return Err(Problem::new(message, span)
                    .help("limit it by `max_size`, or by `cost` and `max_cost`"));
            }
        }
        Ok(())
    }
}

fn not_batched(draft: &Draft) -> Problem {
    let message = format_args!("`{}` takes batches, but gets single values", draft.kind);
    Problem::new(message, draft.span.clone())
        .help("put a window directly before it, such as `adaptive_window`; no other step may take from the window")
}

fn call(
    models: &mut BTreeMap<String, ModelPlan>,
    model: &Spanned<String>,
    size: NonZeroUsize,
    called: &mut Vec<String>,
) -> Result<(), Problem> {
    let name = model.get_ref();
    let Some(plan) = models.get_mut(name) else {
        let known = models.keys().map(String::as_str);
        let problem = file::unknown("model", name, model.span(), known);
        return Err(if models.is_empty() {
            problem.help(format_args!("add a `[model.{name}]` table with a `path`"))
        } else {
            problem
        });
    };
    if let ModelPlan::Text(plan) = plan {
        let options = &mut plan.options;
        // A model computes a larger batch in parts.
        let size = size.min(MAX_BATCH);
        let known = called.contains(name);
        options.max_batch = if known { options.max_batch.max(size) } else { size };
    }
    called.push(name.clone());
    Ok(())
}

/// Refuses an operator that holds values until the end of the flow, in a place in which the flow
/// cannot end while the operator holds values. There are two: a loop ends only when no value is
/// inside it, and a flow behind a retry only when no request is in flight.
fn check_ends_by_itself(draft: &Draft, place: &str) -> Result<(), Problem> {
    let waits = match &draft.operator {
        Operator::Window(window) => window.keeps() != Some(0),
        Operator::Collect(_) => true,
        _ => false,
    };
    if !waits {
        return Ok(());
    }
    let message =
        format_args!("`{}` waits for the end of the flow, which never comes {place}", draft.kind);
    Err(Problem::new(message, draft.span.clone()).help("use a window with a timeout"))
}

/// Checks that the source's `max_in_flight` is large enough to fill all windows without a timeout.
/// Otherwise the windows would wait for further records, and the source for answers.
fn check_in_flight(drafts: &[Draft], sources: &[SourcePlan]) -> Result<(), Problem> {
    let bounds = sources.iter().filter_map(|source| match source {
        SourcePlan::Kafka(config) => Some(config.max_in_flight.get()),
        _ => None,
    });
    let Some(bound) = bounds.min() else { return Ok(()) };
    let mut kept = 0_usize;
    for draft in drafts {
        let keeps = match &draft.operator {
            Operator::Window(window) => window.keeps(),
            Operator::Collect(collect) => Some(collect.max_size.get()),
            _ => Some(0),
        };
        let Some(keeps) = keeps else {
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

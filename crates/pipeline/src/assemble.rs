//! From a plan to the flows of its sinks. What runs and what is drawn (`draw.rs`) are built by the same code.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use forebay_model::Tokens;
use forebay_stream::{AdaptiveWindow, Batches, Failed, Feedback, Flow, Meta, Release, Tap};

use crate::answer::Answer;
use crate::deadline::Deadlines;
use crate::file::Order;
use crate::json::Json;
use crate::plan::{
    Loop, NodeRef, OnFailure, Output, Plan, Policy, Port, SinkEnd, SourcePlan, StepPlan,
};
use crate::record::Record;
use crate::step::map_batch::{self, MapBatch};
use crate::step::{Branch, Operator, Window};
use crate::task::{Task, TextTask};

/// What flows between two steps.
enum Wire {
    Values(Flow<Json>),
    Batched(Batches<Json>),
    Gathering(Gathering),
}

/// What a window is to gather, which leaves it to a model that takes its batches how they are chosen.
struct Gathering {
    flow: Flow<Json>,
    window: Arc<dyn Window>,
    name: String,
    limits: AdaptiveWindow,
}

impl Gathering {
    /// By the window itself.
    fn batches(self) -> Batches<Json> {
        self.window.apply(self.flow.named(self.name))
    }

    /// By the lengths of the texts' tokens, which are made before.
    fn tokens(self, task: &TextTask, deadlines: Option<Deadlines>) -> Batches<Tokens> {
        let parallelism = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let (costs, task) = (task.costs(), task.clone());
        let tokenize = move |request| task.clone().tokenize(request);
        let due = move |meta: &Meta| match &deadlines {
            Some(deadlines) => deadlines.due(meta),
            None => Ok(None),
        };
        let length = |tokens: &Tokens| tokens.ids().len() as u64;
        let tokens = self.flow.named("tokenize").map_async(tokenize, parallelism);
        tokens.named(self.name).adaptive_window_by_length(self.limits, costs, length, due)
    }
}

impl Wire {
    /// Single values; a batch becomes an array.
    fn values(self) -> Flow<Json> {
        match self {
            Self::Values(flow) => flow,
            Self::Gathering(gathering) => Self::Batched(gathering.batches()).values(),
            Self::Batched(batches) => {
                batches.named("array").fold(Json::array([]), |array, value| Ok(array.pushed(value)))
            }
        }
    }

    fn replace(&mut self, f: impl FnOnce(Self) -> Flow<Json>) {
        let wire = std::mem::replace(self, Self::Values(Flow::from_iter([])));
        *self = Self::Values(f(wire));
    }
}

/// The handles of the `tap` steps, by their names.
pub(crate) type Taps = BTreeMap<String, Tap<Json>>;

/// How many answers have been made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) results: Arc<AtomicU64>,
    pub(crate) errors: Arc<AtomicU64>,
}

/// Everything between the sources' records and what the sinks take.
pub(crate) struct Assembled {
    /// What goes to each sink, in the plan's order.
    pub(crate) answers: Vec<Flow<Answer>>,
    /// What goes to the topic for dead letters, where there is one.
    pub(crate) dead_letters: Option<Flow<Failed<Record>>>,
}

/// Builds everything between the sources' records and the answers that the sinks take.
///
/// `task` finds the task of a model; [`Plan`] has seen to it that there is one.
pub(crate) fn assemble(
    plan: &Plan,
    records: Vec<Flow<Record>>,
    task: &dyn Fn(&str) -> Task,
    counts: &Counts,
    taps: &mut Taps,
) -> Assembled {
    let mut failures: Option<Flow<Failed<Record>>> = None;
    let mut caught = Vec::new();
    for (source, records) in plan.sources.iter().zip(records) {
        let Some((capacity, release)) = answers_failures(source, &plan.on_failure) else {
            caught.push(guarded(plan, records));
            continue;
        };
        let (records, failed) = records.catch(capacity, release);
        caught.push(guarded(plan, records));
        failures = Some(match failures {
            Some(failures) => failures.union(failed),
            None => failed,
        });
    }
    let (errors, dead_letters) = match failures {
        Some(failures) => answers_to(failures, &plan.on_failure.policy, counts),
        None => (None, None),
    };
    let answers = match (plan.order_of_answers, caught.len()) {
        (Order::Key, 1) => in_key_order(plan, caught, task, counts, taps),
        _ => results(plan, caught, task, counts, taps),
    };

    // Errors go where the results of the first sink go that keeps them.
    let kept = plan.sinks.iter().position(|sink| !matches!(sink.end, SinkEnd::Drop)).unwrap_or(0);
    let mut errors = errors;
    let answers = answers.into_iter().enumerate().map(|(number, answers)| {
        match errors.take_if(|_| number == kept) {
            Some(errors) => answers.rejoin(errors),
            None => answers,
        }
    });
    Assembled { answers: answers.collect(), dead_letters }
}

/// So many failures are too many.
fn guarded(plan: &Plan, records: Flow<Record>) -> Flow<Record> {
    match &plan.on_failure.breaker {
        Some(breaker) => records.breaker(*breaker),
        None => records,
    }
}

/// Error replies, dead letters, or both, of what failed.
fn answers_to(
    failures: Flow<Failed<Record>>,
    policy: &Policy,
    counts: &Counts,
) -> (Option<Flow<Answer>>, Option<Flow<Failed<Record>>>) {
    let counted = Arc::clone(&counts.errors);
    let count = move |failed: &Failed<Record>| {
        tracing::debug!(failure = %failed.failure, "not answered with a result");
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let reply = |failed: &Failed<Record>| Answer::failure(&failed.failure);
    match policy {
        Policy::Reply | Policy::Stop => {
            let replies = failures.named("error reply").map(move |failed| {
                count(&failed);
                reply(&failed)
            });
            (Some(replies), None)
        }
        Policy::DeadLetter { reply: false, .. } => {
            (None, Some(failures.named("dead letter").inspect(count)))
        }
        Policy::DeadLetter { reply: true, .. } => {
            let [answered, kept] = failures.branch(NonZeroUsize::MIN);
            let replies = answered.named("error reply").map(move |failed| reply(&failed));
            (Some(replies), Some(kept.named("dead letter").inspect(count)))
        }
    }
}

/// The steps, with the answers to each key in the order of its requests.
fn in_key_order(
    plan: &Plan,
    mut records: Vec<Flow<Record>>,
    task: &dyn Fn(&str) -> Task,
    counts: &Counts,
    taps: &mut Taps,
) -> Vec<Flow<Answer>> {
    let (Some(only), Some(source)) = (records.pop(), plan.sources.first()) else {
        return Vec::new();
    };
    let ordered = only.in_key_order(places(source), |records| {
        let answers = results(plan, vec![records], task, counts, taps).pop();
        // The plan has one sink.
        answers.unwrap_or_else(|| Flow::from_iter([]))
    });
    vec![ordered]
}

/// What the steps make of the records, for each sink.
fn results(
    plan: &Plan,
    records: Vec<Flow<Record>>,
    task: &dyn Fn(&str) -> Task,
    counts: &Counts,
    taps: &mut Taps,
) -> Vec<Flow<Answer>> {
    let mut wires = Wires::new(plan);
    for (number, (source, records)) in plan.sources.iter().zip(records).enumerate() {
        let records = match &plan.on_failure.retry {
            Some(retry) => records.retry(*retry, places(source)),
            None => records,
        };
        let records = if source.has_headers() {
            let deadlines = plan.deadlines.clone();
            records.named("deadline").admit(move |meta| deadlines.check(meta))
        } else {
            records
        };
        let values = records.named("decode").try_map(Record::decode);
        let port = Port { place: NodeRef::Source(number), way: Output::Only };
        wires.give(port, Wire::Values(values), Branch::default());
    }
    for &number in &plan.order {
        step(&plan.steps[number], number, &mut wires, task, taps);
    }
    let answers = plan.sinks.iter().map(|sink| {
        let counted = Arc::clone(&counts.results);
        let results = wires.take(sink.from).values();
        results.named("encode").map(move |value| {
            counted.fetch_add(1, Ordering::Relaxed);
            Answer::result(&value)
        })
    });
    answers.collect()
}

fn step(
    step: &StepPlan,
    number: usize,
    wires: &mut Wires<'_>,
    task: &dyn Fn(&str) -> Task,
    taps: &mut Taps,
) {
    let StepPlan { name, operator, from, flush } = step;
    let port = Port { place: NodeRef::Step(number), way: Output::Only };
    let mut inputs = from.iter().map(|(port, _)| *port);
    let mut input = |wires: &mut Wires<'_>| match inputs.next() {
        Some(port) => wires.take(port),
        // The plan gives every step an input.
        None => Wire::Values(Flow::from_iter([])),
    };
    let output = match operator {
        Operator::Values(operator) => {
            Wire::Values(operator.apply(input(wires).values().named(name.as_str())))
        }
        Operator::Tap(tap) => {
            let flow = input(wires).values().named(name.as_str());
            let (flow, handle) = flow.tap(tap.last);
            // Several may go by the operator's own name.
            let others = taps.keys().filter(|known| known.split('#').next() == Some(name)).count();
            let name = if others == 0 { name.clone() } else { format!("{name}#{}", others + 1) };
            taps.insert(name, handle);
            Wire::Values(flow)
        }
        Operator::Window(window) => {
            let (flow, name, window) = (input(wires).values(), name.clone(), Arc::clone(window));
            match window.limits() {
                Some(limits) => Wire::Gathering(Gathering { flow, window, name, limits }),
                None => Wire::Batched(window.apply(flow.named(name))),
            }
        }
        Operator::Batches(operator) => Wire::Values(match input(wires) {
            Wire::Gathering(gathering) => {
                operator.of_batches(gathering.batches().named(name.as_str()))
            }
            Wire::Batched(batches) => operator.of_batches(batches.named(name.as_str())),
            Wire::Values(flow) => operator.of_arrays(flow.named(name.as_str())),
        }),
        Operator::MapBatch(call) => {
            let has_headers = wires.plan.sources.iter().any(SourcePlan::has_headers);
            let deadlines = has_headers.then(|| wires.plan.deadlines.clone());
            Wire::Values(map_batch(call, name, input(wires), deadlines, task))
        }
        Operator::Collect(collect) => {
            let flush = flush.map(|port| wires.take(port).values());
            let flow = input(wires).values().named(name.as_str());
            Wire::Batched(collect.apply(flow, flush))
        }
        Operator::Join(join) => {
            let looping = wires.loop_at(number);
            let (mut flows, mut names) = (Vec::new(), Vec::new());
            for (port, name) in from {
                if looping.is_none_or(|looping| port.place != NodeRef::Step(looping.feedback)) {
                    flows.push(wires.take(*port).values());
                    names.push(name.clone());
                }
            }
            let Some(joined) = join.apply(flows, name, &names) else { return };
            Wire::Values(match looping {
                Some(looping) => wires.open_loop(looping, joined),
                None => joined,
            })
        }
        Operator::Split(split) => {
            let (yes, no) = split.apply(input(wires).values().named(name.as_str()));
            for (way, flow) in [(Output::True, yes), (Output::False, no)] {
                wires.give(Port { way, ..port }, Wire::Values(flow), Branch::default());
            }
            return;
        }
        Operator::Branch(branch) => {
            let wire = Wire::Values(input(wires).values().named(name.as_str()));
            return wires.give(port, wire, *branch);
        }
        Operator::Feedback(_) => {
            let again = input(wires).values();
            return wires.close_loop(number, again);
        }
    };
    wires.give(port, output, Branch::default());
}

fn map_batch(
    call: &MapBatch,
    name: &str,
    input: Wire,
    deadlines: Option<Deadlines>,
    task: &dyn Fn(&str) -> Task,
) -> Flow<Json> {
    let model = match call {
        MapBatch::Model(model) => model.get_ref(),
        MapBatch::Jq(jq) => {
            let jq = jq.clone();
            let call = move |values| std::future::ready(map_batch::call(&jq, &values));
            return in_time(batched(input), deadlines).named(name).map_batch(call);
        }
    };
    // Unless it was given a name of its own, it is called after its model too.
    let name = if name == "map_batch" { format!("map_batch({model})") } else { name.to_owned() };
    match (task(model), input) {
        (Task::Text(task), Wire::Gathering(gathering)) => {
            let batches = gathering.tokens(&task, deadlines.clone());
            in_time(batches, deadlines).named(name).map_batch(task)
        }
        (Task::Text(task), input) => {
            in_time(batched(input), deadlines).named(name).map_batch::<TextTask>(task)
        }
        (Task::Json(task), input) => {
            in_time(batched(input), deadlines).named(name).map_batch(move |batch| task(batch))
        }
    }
}

fn batched(wire: Wire) -> Batches<Json> {
    match wire {
        Wire::Batched(batches) => batches,
        Wire::Gathering(gathering) => gathering.batches(),
        // The plan has refused this; single values are what batches of one would be.
        Wire::Values(flow) => flow.partition(NonZeroUsize::MIN, None),
    }
}

/// Nobody waits for the answer to a request that is late, so the model does not see it.
fn in_time<T: Send + 'static>(batches: Batches<T>, deadlines: Option<Deadlines>) -> Batches<T> {
    match deadlines {
        Some(deadlines) => batches.named("deadline").admit(move |meta| deadlines.check(meta)),
        None => batches,
    }
}

/// The flows that have been made and not yet been taken.
struct Wires<'a> {
    plan: &'a Plan,
    /// For each port as many flows as there are takers left.
    open: BTreeMap<Port, Vec<Wire>>,
    /// The loops that have been opened and not yet been closed, by their feedback step.
    loops: HashMap<usize, Feedback<Json>>,
}

impl<'a> Wires<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, open: BTreeMap::new(), loops: HashMap::new() }
    }

    /// Lays what leaves a port out for all that take it.
    fn give(&mut self, port: Port, wire: Wire, branch: Branch) {
        let takers = NonZeroUsize::new(self.takers(port)).filter(|count| count.get() > 1);
        let stages = match takers {
            None => vec![wire],
            Some(count) => {
                let flows = wire.values().branches(count, branch.capacity);
                flows.into_iter().map(Wire::Values).collect()
            }
        };
        self.open.insert(port, stages);
    }

    fn takers(&self, port: Port) -> usize {
        let steps = self.plan.steps.iter();
        let inputs =
            steps.flat_map(|step| step.from.iter().map(|(port, _)| port).chain(&step.flush));
        let sinks = self.plan.sinks.iter().map(|sink| &sink.from);
        inputs.chain(sinks).filter(|taken| **taken == port).count()
    }

    /// What leaves a port, for one of its takers.
    fn take(&mut self, port: Port) -> Wire {
        let wire = self.open.get_mut(&port).and_then(Vec::pop);
        // The plan's order sees to it that it has been made.
        wire.unwrap_or_else(|| Wire::Values(Flow::from_iter([])))
    }

    fn loop_at(&self, head: usize) -> Option<&'a Loop> {
        self.plan.loops.iter().find(|looping| looping.head == head)
    }

    fn open_loop(&mut self, looping: &Loop, flow: Flow<Json>) -> Flow<Json> {
        let Operator::Feedback(settings) = &self.plan.steps[looping.feedback].operator else {
            return flow;
        };
        let name = self.plan.steps[looping.head].name.as_str();
        let (flow, edge) = flow.named(name).feedback(settings.capacity);
        self.loops.insert(looping.feedback, edge);
        flow
    }

    /// Takes `again` back to the beginning of its loop. What is left open inside the loop by now leaves it.
    fn close_loop(&mut self, feedback: usize, again: Flow<Json>) {
        let Some(edge) = self.loops.remove(&feedback) else { return };
        let Some(looping) = self.plan.loops.iter().find(|looping| looping.feedback == feedback)
        else {
            return;
        };
        let inside = |port: &Port| match port.place {
            NodeRef::Step(step) => looping.inside.contains(&step),
            NodeRef::Source(_) => false,
        };
        let open = self.open.iter_mut().filter(|(port, _)| inside(port));
        let mut exits: Vec<&mut Wire> = open.flat_map(|(_, stages)| stages).collect();
        // The plan has seen to it that there is one.
        let Some(last) = exits.pop() else { return };
        for exit in exits {
            exit.replace(|wire| edge.leave(wire.values()));
        }
        last.replace(|wire| edge.connect(again, wire.values()));
    }
}

/// How many failures may wait to be answered, and whether answers stand in their inputs' places; `None` where failures
/// are not answered: by a source that tells its own client of them, and where they are to end the pipeline.
fn answers_failures(
    source: &SourcePlan,
    on_failure: &OnFailure,
) -> Option<(NonZeroUsize, Release)> {
    let release = match (source, &on_failure.policy) {
        (SourcePlan::Http(_), _) | (_, Policy::Stop) => return None,
        (SourcePlan::Kafka(_), _) => Release::AtOnce,
        _ => Release::InOrder,
    };
    Some((places(source), release))
}

/// How many requests of a source may be under way.
fn places(source: &SourcePlan) -> NonZeroUsize {
    const MANY: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");
    match source {
        SourcePlan::Kafka(config) => config.max_in_flight,
        SourcePlan::Http(config) => config.max_in_flight,
        _ => MANY,
    }
}

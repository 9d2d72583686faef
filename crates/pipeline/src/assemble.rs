//! Assembles a plan's operators into the flows of its sinks. Running a plan and drawing it
//! (`draw.rs`) use the same code.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use forebay_model::Tokens;
use forebay_stream::{AdaptiveWindow, Batches, Failed, Feedback, Flow, Meta, Release, Tap};

use crate::answer::Answer;
use crate::deadline::Deadlines;
use crate::enrich::Extracted;
use crate::file::Order;
use crate::json::Json;
use crate::plan::{
    Loop, NodeRef, OnFailure, Output, Plan, Policy, Port, SinkEnd, SourcePlan, StepPlan,
};
use crate::record::Record;
use crate::step::map_batch::{self, Call, MapBatch};
use crate::step::{Branch, Operator, Window};
use crate::task::{self, JsonTask, Task, TextTask};

/// The flow between two steps: single values, batches, or the values for a window whose operator
/// the next step decides.
enum Wire {
    Values(Flow<Json>),
    Batched(Batches<Json>),
    Gathering(Gathering),
}

/// A window whose operator is not chosen yet, because that depends on the step that takes its
/// batches: before a text model the batches are chosen by token counts, otherwise by the window
/// itself.
struct Gathering {
    flow: Flow<Json>,
    window: Arc<dyn Window>,
    name: String,
    limits: AdaptiveWindow,
}

impl Gathering {
    /// Lets the window itself choose the batches.
    fn batches(self) -> Batches<Json> {
        self.window.apply(self.flow.named(self.name))
    }

    /// Tokenises the texts, and chooses the batches by their token counts.
    fn tokens(self, task: &TextTask, deadlines: Option<Deadlines>) -> Batches<Extracted<Tokens>> {
        let parallelism = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let costs = task.costs();
        let task = task.clone();
        let tokenize = move |request| task.clone().tokenize(request);
        let due = move |meta: &Meta| match &deadlines {
            Some(deadlines) => deadlines.due(meta),
            None => Ok(None),
        };
        let length = |extracted: &Extracted<Tokens>| {
            extracted.inputs().iter().map(|tokens| tokens.ids().len() as u64).sum()
        };
        let tokens = self.flow.named("tokenize").map_async(tokenize, parallelism);
        tokens.named(self.name).adaptive_window_by_length(self.limits, costs, length, due)
    }
}

impl Wire {
    /// Returns the wire as single values; each batch becomes an array.
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

/// The numbers of answers so far, which the running pipeline updates. A dead letter counts as an
/// error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) results: Arc<AtomicU64>,
    pub(crate) errors: Arc<AtomicU64>,
}

/// The flows that [`assemble`] has built.
pub(crate) struct Assembled {
    /// The answers for each sink, in the plan's order.
    pub(crate) answers: Vec<Flow<Answer>>,
    /// The dead letters, if the policy keeps them.
    pub(crate) dead_letters: Option<Flow<Failed<Record>>>,
    /// The failures that stop the pipeline, if the policy is `stop`.
    pub(crate) stops: Option<Flow<Failed<Record>>>,
}

/// The flows of failed requests. The policy decides which of them exist.
#[derive(Default)]
struct Failures {
    replies: Option<Flow<Answer>>,
    dead_letters: Option<Flow<Failed<Record>>>,
    stops: Option<Flow<Failed<Record>>>,
}

/// Assembles a plan's operators, from the sources' records to the answers for the sinks.
///
/// `task` returns the task of a model by its name. It is called with every name of a model in the
/// plan's steps, and must know them all.
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
        let Some((capacity, release)) = failure_buffer(source, &plan.on_failure) else {
            caught.push(with_breaker(plan, records));
            continue;
        };
        let (records, failed) = records.catch(capacity, release);
        caught.push(with_breaker(plan, records));
        failures = Some(match failures {
            Some(failures) => failures.union(failed),
            None => failed,
        });
    }
    let failures = failures.map(|flow| by_policy(flow, &plan.on_failure.policy, counts));
    let Failures { mut replies, dead_letters, stops } = failures.unwrap_or_default();
    let answers = match (plan.order_of_answers, caught.len()) {
        (Order::Key, 1) => in_key_order(plan, caught, task, counts, taps),
        _ => results(plan, caught, task, counts, taps),
    };

    // Error replies go to the first sink that is not `drop`.
    let kept = plan.sinks.iter().position(|sink| !matches!(sink.end, SinkEnd::Drop)).unwrap_or(0);
    let answers = answers.into_iter().enumerate().map(|(number, answers)| {
        match replies.take_if(|_| number == kept) {
            Some(replies) => answers.rejoin(replies),
            None => answers,
        }
    });
    Assembled { answers: answers.collect(), dead_letters, stops }
}

/// Adds the circuit breaker, if the plan has one.
fn with_breaker(plan: &Plan, records: Flow<Record>) -> Flow<Record> {
    match &plan.on_failure.breaker {
        Some(breaker) => records.breaker(*breaker),
        None => records,
    }
}

/// Turns failed requests into error replies, dead letters, or both, or lets them stop the pipeline.
fn by_policy(failures: Flow<Failed<Record>>, policy: &Policy, counts: &Counts) -> Failures {
    let counted = Arc::clone(&counts.errors);
    let count = move |failed: &Failed<Record>| {
        tracing::debug!(failure = %failed.failure, "request failed");
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let reply = |failed: &Failed<Record>| Answer::failure(&failed.failure);
    let dead_letters =
        |flow: Flow<Failed<Record>>| flow.named("dead letter").inspect(count.clone());
    match policy {
        Policy::Reply => {
            let replies = failures.named("error reply").map(move |failed| {
                count(&failed);
                reply(&failed)
            });
            Failures { replies: Some(replies), ..Failures::default() }
        }
        Policy::Stop => Failures { stops: Some(failures), ..Failures::default() },
        Policy::DeadLetter { reply: false, .. } => {
            Failures { dead_letters: Some(dead_letters(failures)), ..Failures::default() }
        }
        Policy::DeadLetter { reply: true, .. } => {
            let [answered, kept] = failures.branch(NonZeroUsize::MIN);
            let replies = answered.named("error reply").map(move |failed| reply(&failed));
            Failures {
                replies: Some(replies),
                dead_letters: Some(dead_letters(kept)),
                ..Failures::default()
            }
        }
    }
}

/// Assembles the steps so that the answers to each key leave in the order of its requests.
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
    let ordered = only.in_key_order(max_in_flight(source), |records| {
        let answers = results(plan, vec![records], task, counts, taps).pop();
        // The plan has exactly one sink: `order = "key"` is refused otherwise.
        answers.unwrap_or_else(|| Flow::from_iter([]))
    });
    vec![ordered]
}

/// Assembles the steps, and returns the answers for each sink.
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
            Some(retry) => records.retry(*retry, max_in_flight(source)),
            None => records,
        };
        let records = if source.has_headers() {
            let deadlines = plan.deadlines.clone();
            records.named("deadline").admit(move |meta| deadlines.check(meta))
        } else {
            records
        };
        let values = records.named("decode").try_map(Record::decode);
        let port = Port { node: NodeRef::Source(number), output: Output::Only };
        wires.give(port, Wire::Values(values), Branch::default());
    }
    for &number in &plan.order {
        step(&plan.steps[number], number, &mut wires, task, taps);
    }
    let answers = plan.sinks.iter().map(|sink| {
        let counted = Arc::clone(&counts.results);
        let results = wires.take(sink.from).values();
        results.named("encode").try_map(move |value| {
            let answer = Answer::result(&value)?;
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(answer)
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
    let port = Port { node: NodeRef::Step(number), output: Output::Only };
    let mut inputs = from.iter().map(|(port, _)| *port);
    let mut input = |wires: &mut Wires<'_>| match inputs.next() {
        Some(port) => wires.take(port),
        // Unreachable: the plan gives every step an input.
        None => Wire::Values(Flow::from_iter([])),
    };
    let output = match operator {
        Operator::Values(operator) => {
            Wire::Values(operator.apply(input(wires).values().named(name.as_str())))
        }
        Operator::Tap(tap) => {
            let flow = input(wires).values().named(name.as_str());
            let (flow, handle) = flow.tap(tap.last);
            // Taps without a `name` are all called `tap`: the second one becomes `tap#2`.
            let others = taps.keys().filter(|known| known.split('#').next() == Some(name)).count();
            let name = if others == 0 { name.clone() } else { format!("{name}#{}", others + 1) };
            taps.insert(name, handle);
            Wire::Values(flow)
        }
        Operator::Window(window) => {
            let flow = input(wires).values();
            let name = name.clone();
            let window = Arc::clone(window);
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
            let mut flows = Vec::new();
            let mut names = Vec::new();
            for (port, name) in from {
                if looping.is_none_or(|looping| port.node != NodeRef::Step(looping.feedback)) {
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
            for (output, flow) in [(Output::True, yes), (Output::False, no)] {
                wires.give(Port { output, ..port }, Wire::Values(flow), Branch::default());
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
    map_batch: &MapBatch,
    name: &str,
    input: Wire,
    deadlines: Option<Deadlines>,
    task: &dyn Fn(&str) -> Task,
) -> Flow<Json> {
    let MapBatch { call, enrich } = map_batch;
    let enrich = Arc::clone(enrich);
    let model = match call {
        Call::Model(model) => model.get_ref(),
        Call::Jq(jq) => {
            let jq = jq.clone();
            let task: JsonTask =
                Arc::new(move |values| Box::pin(std::future::ready(map_batch::call(&jq, &values))));
            let task = task::enriching(task, enrich);
            return in_time(batched(input), deadlines).named(name).map_batch(move |v| task(v));
        }
    };
    // A step without a `name` also gets the name of its model, so that steps that call different
    // models can be told apart.
    let name = if name == "map_batch" { format!("map_batch({model})") } else { name.to_owned() };
    match (task(model), input) {
        (Task::Text(task), Wire::Gathering(gathering)) => {
            let task = task.enriching(enrich);
            let batches = gathering.tokens(&task, deadlines.clone());
            in_time(batches, deadlines).named(name).map_batch(task)
        }
        (Task::Text(task), input) => {
            let task = task.enriching(enrich);
            in_time(batched(input), deadlines).named(name).map_batch::<TextTask>(task)
        }
        (Task::Json(task), input) => {
            let task = task::enriching(task, enrich);
            in_time(batched(input), deadlines).named(name).map_batch(move |batch| task(batch))
        }
    }
}

fn batched(wire: Wire) -> Batches<Json> {
    match wire {
        Wire::Batched(batches) => batches,
        Wire::Gathering(gathering) => gathering.batches(),
        // Unreachable: the plan refuses `map_batch` without a window before it. Batches of one
        // would be equivalent.
        Wire::Values(flow) => flow.partition(NonZeroUsize::MIN, None),
    }
}

/// Fails the requests whose deadline has passed, so that the model does not compute them: nobody
/// waits for their answers any more.
fn in_time<T: Send + 'static>(batches: Batches<T>, deadlines: Option<Deadlines>) -> Batches<T> {
    match deadlines {
        Some(deadlines) => batches.named("deadline").admit(move |meta| deadlines.check(meta)),
        None => batches,
    }
}

/// The flows that have been assembled and not yet taken by a step or a sink.
struct Wires<'a> {
    plan: &'a Plan,
    /// For each port, one flow for each step or sink that has not taken its flow yet.
    open: BTreeMap<Port, Vec<Wire>>,
    /// The loops whose head is assembled and whose feedback is not, by the index of the feedback
    /// step.
    loops: HashMap<usize, Feedback<Json>>,
}

impl<'a> Wires<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, open: BTreeMap::new(), loops: HashMap::new() }
    }

    /// Registers the flow of a port, and branches it if several steps or sinks take it.
    fn give(&mut self, port: Port, wire: Wire, branch: Branch) {
        let takers = NonZeroUsize::new(self.takers(port)).filter(|count| count.get() > 1);
        let wires = match takers {
            None => vec![wire],
            Some(count) => {
                let flows = wire.values().branches(count, branch.capacity);
                flows.into_iter().map(Wire::Values).collect()
            }
        };
        self.open.insert(port, wires);
    }

    fn takers(&self, port: Port) -> usize {
        let steps = self.plan.steps.iter();
        let inputs =
            steps.flat_map(|step| step.from.iter().map(|(port, _)| port).chain(&step.flush));
        let sinks = self.plan.sinks.iter().map(|sink| &sink.from);
        inputs.chain(sinks).filter(|taken| **taken == port).count()
    }

    /// Returns the flow of a port for one of its takers.
    fn take(&mut self, port: Port) -> Wire {
        let wire = self.open.get_mut(&port).and_then(Vec::pop);
        // Unreachable: in the plan's order a step comes after the steps that it takes from.
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

    /// Sends the values of `again` back to the head of its loop. The flows of steps in the loop
    /// that no step has taken yet become the exits of the loop.
    fn close_loop(&mut self, feedback: usize, again: Flow<Json>) {
        let Some(edge) = self.loops.remove(&feedback) else { return };
        let Some(looping) = self.plan.loops.iter().find(|looping| looping.feedback == feedback)
        else {
            return;
        };
        let inside = |port: &Port| match port.node {
            NodeRef::Step(step) => looping.inside.contains(&step),
            NodeRef::Source(_) => false,
        };
        let open = self.open.iter_mut().filter(|(port, _)| inside(port));
        let mut exits: Vec<&mut Wire> = open.flat_map(|(_, wires)| wires).collect();
        // Unreachable: the plan refuses a loop without an exit.
        let Some(last) = exits.pop() else { return };
        for exit in exits {
            exit.replace(|wire| edge.leave(wire.values()));
        }
        last.replace(|wire| edge.connect(again, wire.values()));
    }
}

/// Returns the capacity of the buffer for failures that wait to be answered, and the order in which
/// they leave the buffer. `None` for HTTP, unless the policy is `stop`: the source itself answers
/// its clients with the failures.
fn failure_buffer(source: &SourcePlan, on_failure: &OnFailure) -> Option<(NonZeroUsize, Release)> {
    let release = match (source, &on_failure.policy) {
        (_, Policy::Stop) | (SourcePlan::Kafka(_), _) => Release::AtOnce,
        (SourcePlan::Http(_), _) => return None,
        _ => Release::InOrder,
    };
    Some((max_in_flight(source), release))
}

/// Returns how many requests of a source may be in flight.
fn max_in_flight(source: &SourcePlan) -> NonZeroUsize {
    const DEFAULT: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");
    match source {
        SourcePlan::Kafka(config) => config.max_in_flight,
        SourcePlan::Http(config) => config.max_in_flight,
        _ => DEFAULT,
    }
}

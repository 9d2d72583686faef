//! Assembles the steps of a plan, from the sources' values to the flows that the sinks take.

use std::sync::Arc;

use forebay_stream::{Batches, Flow};
use tokio_util::sync::CancellationToken;

use super::Taps;
use super::wires::{Gathering, Wire, Wires};
use crate::deadline::Deadlines;
use crate::json::Json;
use crate::plan::{Input, NodeRef, Output, Plan, Port, StepKind, StepPlan};
use crate::step::{self, Branch, Call, MapBatch, NamedFlow};
use crate::task::{self, JsonTask, Task, TextTask};

/// Builds the flows of a plan's steps.
pub(super) struct Steps<'a> {
    /// Where `map_batch` finds the deadlines of requests; `None` if no source has headers.
    deadlines: Option<Deadlines>,
    plan: &'a Plan,
    task: &'a dyn Fn(&str) -> Task,
    taps: &'a mut Taps,
    stop: &'a CancellationToken,
    wires: Wires,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        task: &'a dyn Fn(&str) -> Task,
        taps: &'a mut Taps,
        stop: &'a CancellationToken,
    ) -> Self {
        let has_headers = plan.sources.iter().any(|source| source.end().has_headers());
        let deadlines = has_headers.then(|| plan.deadlines.clone());
        Self { deadlines, plan, task, taps, stop, wires: Wires::new(plan) }
    }

    /// Assembles all steps behind the sources' values, and returns the flow for each sink.
    pub(super) fn assemble(mut self, sources: Vec<Flow<Json>>) -> Vec<Flow<Json>> {
        for (number, values) in sources.into_iter().enumerate() {
            let port = Port { node: NodeRef::Source(number), output: Output::Only };
            self.wires.give(port, Wire::Values(values), Branch::default());
        }
        for &number in &self.plan.order {
            self.step(number, &self.plan.steps[number]);
        }
        self.plan.sinks.iter().map(|sink| self.wires.take(sink.from).values()).collect()
    }

    fn step(&mut self, number: usize, StepPlan { name, kind }: &StepPlan) {
        let port = Port { node: NodeRef::Step(number), output: Output::Only };
        let output = match kind {
            StepKind::Values { from, operator } => {
                Wire::Values(operator.apply(self.values(*from, name)))
            }
            StepKind::Tap { from, tap } => {
                let (flow, handle) = self.values(*from, name).tap(tap.last.get());
                // Taps without a `name` are all called `tap`: the second one becomes `tap#2`.
                let others =
                    self.taps.keys().filter(|known| known.split('#').next() == Some(name)).count();
                let name =
                    if others == 0 { name.clone() } else { format!("{name}#{}", others + 1) };
                self.taps.insert(name, handle);
                Wire::Values(flow)
            }
            StepKind::Window { from, window } => {
                let flow = self.wires.take(*from).values();
                let name = name.clone();
                let window = Arc::clone(window);
                match window.limits() {
                    Some(limits) => Wire::Gathering(Gathering { flow, window, name, limits }),
                    None => Wire::Batched(window.apply(flow.named(name))),
                }
            }
            StepKind::Batches { from, operator } => Wire::Values(match self.wires.take(*from) {
                Wire::Values(flow) => operator.of_arrays(flow.named(name.as_str())),
                batched => operator.of_batches(batched.batches().named(name.as_str())),
            }),
            StepKind::MapBatch { from, map_batch } => {
                let input = self.wires.take(*from);
                Wire::Values(self.map_batch(map_batch, name, input))
            }
            StepKind::Collect { from, flush, collect } => {
                let flush = flush.map(|port| self.wires.take(port).values());
                Wire::Batched(collect.apply(self.values(*from, name), flush))
            }
            StepKind::Join { first, rest, join } => {
                let (first, rest) = self.inputs(first, rest);
                Wire::Values(join.apply(first, rest, name))
            }
            StepKind::LoopHead { first, rest, join, number, feedback } => {
                let (first, rest) = self.inputs(first, rest);
                let entering = join.apply(first, rest, name).named(name.as_str());
                Wire::Values(self.wires.open_loop(*number, *feedback, self.stop, entering))
            }
            StepKind::Split { from, split } => {
                let (yes, no) = split.apply(self.values(*from, name));
                for (output, flow) in [(Output::True, yes), (Output::False, no)] {
                    let port = Port { output, ..port };
                    self.wires.give(port, Wire::Values(flow), Branch::default());
                }
                return;
            }
            StepKind::Branch { from, branch } => {
                let flow = self.values(*from, name);
                return self.wires.give(port, Wire::Values(flow), *branch);
            }
            StepKind::Feedback { from, inside } => {
                let again = self.wires.take(*from).values();
                return self.wires.close_loop(number, inside, again);
            }
        };
        self.wires.give(port, output, Branch::default());
    }

    /// Returns the values of a port, for an operator called `name`.
    fn values(&mut self, from: Port, name: &str) -> Flow<Json> {
        self.wires.take(from).values().named(name)
    }

    fn inputs(&mut self, first: &Input, rest: &[Input]) -> (NamedFlow, Vec<NamedFlow>) {
        let mut input = |input: &Input| NamedFlow {
            name: input.name.clone(),
            flow: self.wires.take(input.port).values(),
        };
        (input(first), rest.iter().map(input).collect())
    }

    fn map_batch(&self, map_batch: &MapBatch, name: &str, input: Wire) -> Flow<Json> {
        let MapBatch { call, enrich } = map_batch;
        let enrich = Arc::clone(enrich);
        let model = match call {
            Call::Model(model) => model.get_ref(),
            Call::Jq(jq) => {
                let jq = jq.clone();
                let task: JsonTask =
                    Arc::new(move |values| Box::pin(std::future::ready(step::call(&jq, &values))));
                let task = task::enriching(task, enrich);
                return self.in_time(input.batches()).named(name).map_batch(move |v| task(v));
            }
        };
        // A step without a `name` also gets the name of its model, so that steps that call different
        // models can be told apart.
        let name =
            if name == "map_batch" { format!("map_batch({model})") } else { name.to_owned() };
        match ((self.task)(model), input) {
            (Task::Text(task), Wire::Gathering(gathering)) => {
                let task = task.enriching(enrich);
                let batches = gathering.tokens(&task, self.deadlines.clone());
                self.in_time(batches).named(name).map_batch(task)
            }
            (Task::Text(task), input) => {
                let task = task.enriching(enrich);
                self.in_time(input.batches()).named(name).map_batch::<TextTask>(task)
            }
            (Task::Json(task), input) => {
                let task = task::enriching(task, enrich);
                self.in_time(input.batches()).named(name).map_batch(move |batch| task(batch))
            }
        }
    }

    /// Fails the requests whose deadline has passed, so that the model does not compute them: nobody
    /// waits for their answers any more.
    fn in_time<T: Send + 'static>(&self, batches: Batches<T>) -> Batches<T> {
        match self.deadlines.clone() {
            Some(deadlines) => batches.named("deadline").admit(move |meta| deadlines.check(meta)),
            None => batches,
        }
    }
}

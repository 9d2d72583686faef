//! `Wires`: the flows between the steps while a pipeline is assembled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use forebay_model::Tokens;
use forebay_stream::{AdaptiveWindow, Batches, Feedback, Flow, Meta};
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadlines;
use crate::enrich::Extracted;
use crate::json::Json;
use crate::plan::{NodeRef, Plan, Port, StepPlan};
use crate::step::{self, Branch, Window};
use crate::task::TextTask;

/// The flow between two steps: single values, batches, or the values for a window whose operator
/// the next step decides.
pub(super) enum Wire {
    Values(Flow<Json>),
    Batched(Batches<Json>),
    Gathering(Gathering),
}

impl Wire {
    /// Returns the wire as single values; each batch becomes an array.
    pub(super) fn values(self) -> Flow<Json> {
        match self {
            Self::Values(flow) => flow,
            Self::Gathering(gathering) => Self::Batched(gathering.batches()).values(),
            Self::Batched(batches) => {
                batches.named("array").fold(Json::array([]), |array, value| Ok(array.pushed(value)))
            }
        }
    }

    pub(super) fn batches(self) -> Batches<Json> {
        match self {
            Self::Batched(batches) => batches,
            Self::Gathering(gathering) => gathering.batches(),
            Self::Values(_) => unreachable!("`map_batch` comes after a window"),
        }
    }
}

/// A window whose operator is not chosen yet, because that depends on the step that takes its
/// batches: before a text model the batches are chosen by token counts, otherwise by the window
/// itself.
pub(super) struct Gathering {
    pub(super) flow: Flow<Json>,
    pub(super) window: Arc<dyn Window>,
    pub(super) name: String,
    pub(super) limits: AdaptiveWindow,
}

impl Gathering {
    /// Lets the window itself choose the batches.
    pub(super) fn batches(self) -> Batches<Json> {
        self.window.apply(self.flow.named(self.name))
    }

    /// Tokenises the texts, and chooses the batches by their token counts.
    pub(super) fn tokens(
        self,
        task: &TextTask,
        deadlines: Option<Deadlines>,
    ) -> Batches<Extracted<Tokens>> {
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

/// The flows that have been assembled and not yet taken by a step or a sink.
pub(super) struct Wires {
    /// The number of steps and sinks that take each port.
    takers: BTreeMap<Port, NonZeroUsize>,
    /// For each port, one flow for each step or sink that has not taken its flow yet.
    open: BTreeMap<Port, Vec<Wire>>,
    /// The loops whose head is assembled and whose feedback is not, by the index of the feedback
    /// step.
    loops: HashMap<usize, Feedback<Json>>,
}

impl Wires {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut takers = BTreeMap::new();
        let sinks = plan.sinks.iter().map(|sink| sink.from);
        for port in plan.steps.iter().flat_map(StepPlan::ports).chain(sinks) {
            let count =
                takers.get(&port).map_or(NonZeroUsize::MIN, |n: &NonZeroUsize| n.saturating_add(1));
            takers.insert(port, count);
        }
        Self { takers, open: BTreeMap::new(), loops: HashMap::new() }
    }

    /// Registers the flow of a port, and branches it if several steps or sinks take it.
    pub(super) fn give(&mut self, port: Port, wire: Wire, branch: Branch) {
        let Some(&takers) = self.takers.get(&port) else {
            unreachable!("every output of a source or a step is taken");
        };
        let wires = if takers.get() == 1 {
            vec![wire]
        } else {
            // The first taker gets the first branch, because joins order events by their branches.
            // `take` removes the wires from the end.
            let flows = wire.values().branches(takers, branch.capacity.get());
            flows.into_iter().rev().map(Wire::Values).collect()
        };
        self.open.insert(port, wires);
    }

    /// Returns the flow of a port for one of its takers.
    pub(super) fn take(&mut self, port: Port) -> Wire {
        match self.open.get_mut(&port).and_then(Vec::pop) {
            Some(wire) => wire,
            None => unreachable!("a step is assembled after the steps that it takes from"),
        }
    }

    /// Opens a loop at its head. `number` is the index of its `feedback` step. Once `stop` is
    /// cancelled, values no longer go round.
    pub(super) fn open_loop(
        &mut self,
        number: usize,
        settings: step::Feedback,
        stop: &CancellationToken,
        flow: Flow<Json>,
    ) -> Flow<Json> {
        let (flow, edge) = flow.feedback(settings.capacity.get());
        let edge = edge.max_turns(settings.max_turns).until(stop.clone().cancelled_owned());
        self.loops.insert(number, edge);
        flow
    }

    /// Sends the values of `again` back to the head of its loop. The flows of steps `inside` the
    /// loop that no step has taken yet become the exits of the loop.
    pub(super) fn close_loop(
        &mut self,
        feedback: usize,
        inside: &BTreeSet<usize>,
        again: Flow<Json>,
    ) {
        let Some(edge) = self.loops.remove(&feedback) else {
            unreachable!("a `feedback` is assembled after the head of its loop");
        };
        let ports: Vec<Port> = self.open.keys().copied().collect();
        let is_inside =
            |port: &Port| matches!(port.node, NodeRef::Step(step) if inside.contains(&step));
        let mut exits: Vec<(Port, Wire)> = Vec::new();
        for port in ports.into_iter().filter(is_inside) {
            let wires = self.open.remove(&port).into_iter().flatten();
            exits.extend(wires.map(|wire| (port, wire)));
        }
        let Some((port, last)) = exits.pop() else {
            unreachable!("every loop has an exit");
        };
        let mut open = |port, flow| {
            self.open.entry(port).or_default().push(Wire::Values(flow));
        };
        for (port, exit) in exits {
            open(port, edge.leave(exit.values()));
        }
        open(port, edge.connect(again, last.values()));
    }
}

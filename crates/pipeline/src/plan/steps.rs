//! `StepPlan`: a step with the ports that it takes from.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::wiring::{Draft, From, Loop};
use super::{NodeRef, Port};
use crate::expand;
use crate::step::{
    Branch, Collect, Feedback, Join, MapBatch, OnBatches, OnValues, Operator, Split, Tap, Window,
};

/// A step of a plan.
#[derive(Clone)]
pub(crate) struct StepPlan {
    /// The name in graphs, failures and logs.
    pub(crate) name: String,
    pub(crate) kind: StepKind,
}

/// A step's operator, with the ports that it takes from.
#[derive(Clone)]
pub(crate) enum StepKind {
    Values {
        from: Port,
        operator: Arc<dyn OnValues>,
    },
    Window {
        from: Port,
        window: Arc<dyn Window>,
    },
    Batches {
        from: Port,
        operator: Arc<dyn OnBatches>,
    },
    MapBatch {
        from: Port,
        map_batch: MapBatch,
    },
    Tap {
        from: Port,
        tap: Tap,
    },
    Split {
        from: Port,
        split: Split,
    },
    Branch {
        from: Port,
        branch: Branch,
    },
    /// `flush` is the port whose values make the step emit its batch.
    Collect {
        from: Port,
        flush: Option<Port>,
        collect: Collect,
    },
    Join {
        first: Input,
        rest: Vec<Input>,
        join: Arc<dyn Join>,
    },
    /// The `union` at the beginning of a loop: its inputs without the loop's `feedback`, and the
    /// index and the settings of the `feedback` step.
    LoopHead {
        first: Input,
        rest: Vec<Input>,
        join: Arc<dyn Join>,
        number: usize,
        feedback: Feedback,
    },
    /// The end of a loop, with the indices of the loop's steps.
    Feedback {
        from: Port,
        inside: BTreeSet<usize>,
    },
}

/// Returns the name of a step: the one in the file, or otherwise its kind, with a number from the
/// second step of that kind on, so that each step has its own name in graphs and metrics.
fn name(number: usize, drafts: &[Draft]) -> String {
    let draft = &drafts[number];
    if let Some(name) = &draft.name {
        return expand::shown(name);
    }
    let is_taken = |name: &String| {
        drafts.iter().any(|one| one.name.as_ref().is_some_and(|given| given.get_ref() == name))
    };
    let same = |other: &&Draft| other.name.is_none() && other.kind == draft.kind;
    let earlier = drafts[..number].iter().filter(same).count();
    let candidates = std::iter::once(draft.kind.clone())
        .chain((2..).map(|number: usize| format!("{}-{number}", draft.kind)));
    let mut free = candidates.filter(|name| !is_taken(name));
    free.nth(earlier).unwrap_or_default()
}

/// A port that a join takes from, with its name in the file.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) port: Port,
    pub(crate) name: String,
}

impl StepPlan {
    /// Puts a step together from its operator and its resolved ports. The number of inputs has been
    /// checked.
    pub(super) fn new(
        number: usize,
        draft: &Draft,
        from: &From,
        flush: Option<Port>,
        loops: &[Loop],
        drafts: &[Draft],
    ) -> Self {
        let looping = loops.iter().find(|looping| looping.head == number);
        let again = looping.map(|looping| NodeRef::Step(looping.feedback));
        let mut inputs = from
            .iter()
            .filter(|(port, _)| Some(port.node) != again)
            .map(|(port, name)| Input { port: *port, name: name.clone() });
        let Some(first) = inputs.next() else {
            unreachable!("every step takes from a source or another step");
        };
        let from = first.port;
        let kind = match draft.operator.clone() {
            Operator::Values(operator) => StepKind::Values { from, operator },
            Operator::Window(window) => StepKind::Window { from, window },
            Operator::Batches(operator) => StepKind::Batches { from, operator },
            Operator::MapBatch(map_batch) => StepKind::MapBatch { from, map_batch },
            Operator::Tap(tap) => StepKind::Tap { from, tap },
            Operator::Split(split) => StepKind::Split { from, split },
            Operator::Branch(branch) => StepKind::Branch { from, branch },
            Operator::Collect(collect) => StepKind::Collect { from, flush, collect },
            Operator::Join(join) => {
                let rest = inputs.collect();
                match looping {
                    None => StepKind::Join { first, rest, join },
                    Some(&Loop { feedback: number, .. }) => {
                        let Operator::Feedback(feedback) = drafts[number].operator else {
                            unreachable!("a loop ends at a `feedback`");
                        };
                        StepKind::LoopHead { first, rest, join, number, feedback }
                    }
                }
            }
            Operator::Feedback(_) => {
                let closed = loops.iter().find(|looping| looping.feedback == number);
                let Some(closed) = closed else {
                    unreachable!("every `feedback` closes a loop");
                };
                StepKind::Feedback { from, inside: closed.inside.clone() }
            }
        };
        Self { name: name(number, drafts), kind }
    }

    /// Returns the ports that the step takes from, without the `feedback` of a loop.
    pub(crate) fn ports(&self) -> Vec<Port> {
        match &self.kind {
            StepKind::Values { from, .. }
            | StepKind::Window { from, .. }
            | StepKind::Batches { from, .. }
            | StepKind::MapBatch { from, .. }
            | StepKind::Tap { from, .. }
            | StepKind::Split { from, .. }
            | StepKind::Branch { from, .. }
            | StepKind::Feedback { from, .. } => vec![*from],
            StepKind::Collect { from, flush, .. } => [*from].into_iter().chain(*flush).collect(),
            StepKind::Join { first, rest, .. } | StepKind::LoopHead { first, rest, .. } => {
                [first].into_iter().chain(rest).map(|input| input.port).collect()
            }
        }
    }
}

//! Resolves names to ports, finds loops, and orders the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::Problem;
use crate::file::{self, Entry};
use crate::step::Operator;

/// An output of a source or a step, which other steps and sinks take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) node: NodeRef,
    pub(crate) output: Output,
}

/// A source or a step, by its index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeRef {
    Source(usize),
    Step(usize),
}

/// One of the outputs of a source or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Output {
    /// The only output.
    Only,
    /// The values for which the expression of a `split` is true.
    True,
    /// The other values of a `split`.
    False,
}

/// A step whose `from` is not resolved to ports yet.
pub(super) struct Draft {
    pub(super) operator: Operator,
    /// The operator's name, for messages.
    pub(super) kind: String,
    /// Whether the operator is the user's own.
    pub(super) registered: bool,
    pub(super) name: Option<Spanned<String>>,
    pub(super) from: Option<Vec<Spanned<String>>>,
    pub(super) span: Range<usize>,
}

/// The ports that a step takes from, each with its name in the file.
pub(super) type From = Vec<(Port, String)>;

/// The names of sources and steps.
pub(super) struct Names<'a> {
    drafts: &'a [Draft],
    // The number of sources that are tables of the file.
    sources: usize,
    nodes: BTreeMap<String, NodeRef>,
}

impl<'a> Names<'a> {
    /// `committed` are the names of committed offsets.
    pub(super) fn new(
        sources: &[Entry<'_>],
        committed: &[Spanned<String>],
        drafts: &'a [Draft],
    ) -> Result<Self, Problem> {
        let mut names = Self { drafts, sources: sources.len(), nodes: BTreeMap::new() };
        for (number, source) in sources.iter().enumerate() {
            let name = source.name.as_ref().unwrap_or(&source.key);
            names.add(name, NodeRef::Source(number))?;
        }
        for (number, name) in committed.iter().enumerate() {
            names.add(name, NodeRef::Source(sources.len() + number))?;
        }
        for (number, draft) in drafts.iter().enumerate() {
            if let Some(name) = &draft.name {
                names.add(name, NodeRef::Step(number))?;
            }
        }
        Ok(names)
    }

    fn add(&mut self, name: &Spanned<String>, node: NodeRef) -> Result<(), Problem> {
        if self.nodes.insert(name.get_ref().clone(), node).is_none() {
            return Ok(());
        }
        let message = format_args!("the name `{}` is already in use", name.get_ref());
        Err(Problem::new(message, name.span()).help("give one of them another `name`"))
    }

    /// Returns the ports of a step's inputs: those that it names in `from`, or the step or source
    /// before it.
    pub(super) fn inputs(&self, number: usize) -> Result<From, Problem> {
        let draft = &self.drafts[number];
        match &draft.from {
            Some(from) => from.iter().map(|name| self.named(name)).collect(),
            None => Ok(vec![self.before(number, draft.span.clone())?]),
        }
    }

    /// Returns the port of a sink's input: the one that it names in `from`, or the last step.
    pub(super) fn sink_input(&self, sink: &Entry<'_>) -> Result<Port, Problem> {
        match sink.from.as_deref() {
            None => Ok(self.before(self.drafts.len(), sink.span.clone())?.0),
            Some([name]) => Ok(self.named(name)?.0),
            Some([_, second, ..]) => {
                let problem = Problem::new("a sink takes one flow", second.span());
                Err(problem.help("join them in a `union` step first"))
            }
            Some([]) => Err(Problem::new("`from` is empty", sink.span.clone())),
        }
    }

    /// Returns the port of the step or source before step `number`.
    fn before(&self, number: usize, span: Range<usize>) -> Result<(Port, String), Problem> {
        let Some(before) = number.checked_sub(1) else {
            if self.sources > 1 {
                let problem = Problem::new("there are several sources; which one is meant?", span);
                return Err(
                    problem.help("name the source in `from`; a `union` step can take several")
                );
            }
            let port = Port { node: NodeRef::Source(0), output: Output::Only };
            return Ok((port, "source".to_owned()));
        };
        let help = match self.drafts[before].operator {
            Operator::Split(_) => "write `from = \"NAME.true\"` or `from = \"NAME.false\"`",
            Operator::Feedback(_) => "name in `from` the step that this one takes from",
            _ => {
                let port = Port { node: NodeRef::Step(before), output: Output::Only };
                return Ok((port, self.title(before)));
            }
        };
        let kind = &self.drafts[before].kind;
        let message = format_args!("this step needs a `from`: the step before it is a `{kind}`");
        Err(Problem::new(message, span).help(help))
    }

    fn title(&self, step: usize) -> String {
        let draft = &self.drafts[step];
        draft.name.as_ref().map_or(&draft.kind, |name| name.get_ref()).clone()
    }

    /// Resolves a name in `from` to a port.
    pub(super) fn named(&self, name: &Spanned<String>) -> Result<(Port, String), Problem> {
        let text = name.get_ref();
        let (bare, output) = match text.rsplit_once('.') {
            Some((name, "true")) => (name, Output::True),
            Some((name, "false")) => (name, Output::False),
            _ => (text.as_str(), Output::Only),
        };
        let Some(&node) = self.nodes.get(bare) else {
            let known = self.nodes.keys().map(String::as_str);
            return Err(file::unknown("step or source", bare, name.span(), known));
        };
        let splits = matches!(node, NodeRef::Step(step) if matches!(self.drafts[step].operator, Operator::Split(_)));
        match (splits, output) {
            (true, Output::Only) => {
                let problem = Problem::new(format_args!("`{bare}` has two outputs"), name.span());
                Err(problem.help(format_args!("write `{bare}.true` or `{bare}.false`")))
            }
            (false, Output::True | Output::False) => {
                Err(Problem::new(format_args!("`{bare}` is not a `split`"), name.span()))
            }
            _ => Ok((Port { node, output }, text.clone())),
        }
    }
}

/// A loop, around which values can go several times.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    /// The `feedback` step at the end of the loop.
    pub(super) feedback: usize,
    /// The `union` step at its beginning.
    pub(super) head: usize,
    /// All steps of the loop, from `head` to `feedback`.
    pub(super) inside: BTreeSet<usize>,
}

/// The edges between the steps.
pub(super) struct Wiring<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) inputs: &'a [From],
    pub(super) flushes: &'a [Option<Port>],
}

impl Wiring<'_> {
    fn sources_of(&self, step: usize) -> impl Iterator<Item = usize> {
        let ports = self.inputs[step].iter().map(|(port, _)| port).chain(&self.flushes[step]);
        ports.filter_map(|port| match port.node {
            NodeRef::Step(step) => Some(step),
            NodeRef::Source(_) => None,
        })
    }

    fn is_feedback(&self, step: usize) -> bool {
        matches!(self.drafts[step].operator, Operator::Feedback(_))
    }

    /// Returns the loops that `feedback` steps close.
    pub(super) fn loops(&self) -> Result<Vec<Loop>, Problem> {
        let feedbacks = (0..self.drafts.len()).filter(|step| self.is_feedback(*step));
        feedbacks.map(|feedback| self.loop_of(feedback)).collect()
    }

    /// Refuses a loop that nothing leaves, because it would never end.
    pub(super) fn check_exits(&self, looping: &Loop, sinks: &[Port]) -> Result<(), Problem> {
        let inside = |port: &Port| matches!(port.node, NodeRef::Step(step) if looping.inside.contains(&step));
        let outside = (0..self.drafts.len()).filter(|step| !looping.inside.contains(step));
        let leaves = outside
            .flat_map(|step| {
                self.inputs[step].iter().map(|(port, _)| port).chain(&self.flushes[step])
            })
            .chain(sinks)
            .any(inside);
        if leaves {
            return Ok(());
        }
        let span = self.drafts[looping.feedback].span.clone();
        let problem = Problem::new("no value can leave the loop that this `feedback` closes", span);
        Err(problem
            .help("add a `split`: one output goes to the `feedback`, the other leaves the loop"))
    }

    fn loop_of(&self, feedback: usize) -> Result<Loop, Problem> {
        let span = self.drafts[feedback].span.clone();
        let takes = |step: &usize| self.sources_of(*step).any(|from| from == feedback);
        let heads: Vec<usize> = (0..self.drafts.len()).filter(takes).collect();
        let [head] = *heads else {
            let problem = Problem::new(
                "a `feedback` must be named in the `from` of exactly one `union`",
                span,
            );
            return Err(problem.help(
                "give it a `name`, and add the name to `from` of the `union` that begins the loop",
            ));
        };
        let merges = matches!(&self.drafts[head].operator, Operator::Join(join) if join.merges());
        if !merges {
            let problem = Problem::new(
                "a `feedback` must flow into a `union`",
                self.drafts[head].span.clone(),
            );
            return Err(problem.help(
                "put a `union` before this step, which joins the `feedback` with new values",
            ));
        }
        // A step is in the loop if the head leads to it and it leads to the feedback.
        let leads = self.before(feedback);
        let inside: BTreeSet<usize> = leads
            .into_iter()
            .filter(|&step| step == head || self.before(step).contains(&head))
            .collect();
        if !inside.contains(&head) {
            let problem = Problem::new("no value of the `union` can reach this `feedback`", span);
            return Err(problem.help(
                "a `feedback` closes a loop; to merge flows without a loop, use `union` alone",
            ));
        }
        Ok(Loop { feedback, head, inside })
    }

    /// Returns the step and all steps that lead to it, without following feedbacks.
    fn before(&self, step: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::from([step]);
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            for from in self.sources_of(step).filter(|from| !self.is_feedback(*from)) {
                if seen.insert(from) {
                    open.push(from);
                }
            }
        }
        seen
    }

    /// Returns the indices of the steps, each after the steps that it takes from. A step that takes
    /// from a loop also comes after the loop's feedback: the loop's exits are made when its
    /// feedback is assembled.
    pub(super) fn order(&self, loops: &[Loop]) -> Result<Vec<usize>, Problem> {
        let mut waits: Vec<BTreeSet<usize>> = (0..self.drafts.len())
            .map(|step| self.sources_of(step).filter(|from| !self.is_feedback(*from)).collect())
            .collect();
        for Loop { feedback, inside, .. } in loops {
            for (step, waits) in waits.iter_mut().enumerate() {
                if !inside.contains(&step) && waits.iter().any(|from| inside.contains(from)) {
                    waits.insert(*feedback);
                }
            }
        }
        let mut order = Vec::new();
        let mut left: BTreeSet<usize> = (0..self.drafts.len()).collect();
        while let Some(step) = left.iter().copied().find(|step| waits[*step].is_disjoint(&left)) {
            left.remove(&step);
            order.push(step);
        }
        match left.first() {
            None => Ok(order),
            Some(step) => {
                let draft = &self.drafts[*step];
                let problem =
                    Problem::new("this step takes from a circle of steps", draft.span.clone());
                Err(problem.help("close the loop with a `feedback` step, which bounds the number of values in it"))
            }
        }
    }
}

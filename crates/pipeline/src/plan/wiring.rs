//! What flows where: names become ports, and loops are found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::Problem;
use crate::file::{self, Entry};
use crate::step::Operator;

/// One of the outputs of a source or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) place: NodeRef,
    pub(crate) way: Output,
}

/// A source or a step, by its number in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeRef {
    Source(usize),
    Step(usize),
}

/// Which of a step's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Output {
    /// The only one.
    Only,
    /// Of a `split`: the values for which it is true.
    True,
    /// Of a `split`: the others.
    False,
}

/// A step before its neighbours are known.
pub(super) struct Draft {
    pub(super) operator: Operator,
    /// The operator's name, for messages.
    pub(super) kind: String,
    pub(super) name: Option<Spanned<String>>,
    pub(super) from: Option<Vec<Spanned<String>>>,
    pub(super) span: Range<usize>,
}

/// Where a step's or a sink's values come from, with what the file calls that.
pub(super) type From = Vec<(Port, String)>;

/// The names of sources and steps.
pub(super) struct Names<'a> {
    drafts: &'a [Draft],
    sources: usize,
    places: BTreeMap<String, NodeRef>,
}

impl<'a> Names<'a> {
    pub(super) fn new(sources: &[Entry<'_>], drafts: &'a [Draft]) -> Result<Self, Problem> {
        let mut names = Self { drafts, sources: sources.len(), places: BTreeMap::new() };
        for (number, source) in sources.iter().enumerate() {
            let name = source.name.as_ref().unwrap_or(&source.key);
            names.add(name, NodeRef::Source(number))?;
        }
        for (number, draft) in drafts.iter().enumerate() {
            if let Some(name) = &draft.name {
                names.add(name, NodeRef::Step(number))?;
            }
        }
        Ok(names)
    }

    fn add(&mut self, name: &Spanned<String>, place: NodeRef) -> Result<(), Problem> {
        if self.places.insert(name.get_ref().clone(), place).is_none() {
            return Ok(());
        }
        let message = format_args!("something else is called `{}` already", name.get_ref());
        Err(Problem::new(message, name.span()).help("give one of them another `name`"))
    }

    /// Where a step's values come from: what it names, or else what stands before it.
    pub(super) fn inputs(&self, number: usize) -> Result<From, Problem> {
        let draft = &self.drafts[number];
        match &draft.from {
            Some(from) => from.iter().map(|name| self.named(name)).collect(),
            None => Ok(vec![self.before(number, draft.span.clone())?]),
        }
    }

    /// Where a sink's values come from: what it names, or else the last step.
    pub(super) fn sink_input(&self, sink: &Entry<'_>) -> Result<Port, Problem> {
        match sink.from.as_deref() {
            None => Ok(self.before(self.drafts.len(), sink.span.clone())?.0),
            Some([name]) => Ok(self.named(name)?.0),
            Some([_, second, ..]) => {
                let problem = Problem::new("a sink takes one flow", second.span());
                Err(problem.help("join them in a `union` step first"))
            }
            Some([]) => Err(Problem::new("`from` names nothing", sink.span.clone())),
        }
    }

    /// What stands before step `number`.
    fn before(&self, number: usize, span: Range<usize>) -> Result<(Port, String), Problem> {
        let Some(before) = number.checked_sub(1) else {
            if self.sources > 1 {
                let problem = Problem::new("there are several sources; which one is meant?", span);
                return Err(problem.help("name it in `from`; a `union` step can name several"));
            }
            let port = Port { place: NodeRef::Source(0), way: Output::Only };
            return Ok((port, "source".to_owned()));
        };
        let help = match self.drafts[before].operator {
            Operator::Split(_) => "say `from = \"NAME.true\"` or `from = \"NAME.false\"`",
            Operator::Feedback(_) => "say in `from` which step's values come here",
            _ => {
                let port = Port { place: NodeRef::Step(before), way: Output::Only };
                return Ok((port, self.title(before)));
            }
        };
        let kind = &self.drafts[before].kind;
        let message = format_args!("what comes here? The step before is a `{kind}`");
        Err(Problem::new(message, span).help(help))
    }

    fn title(&self, step: usize) -> String {
        let draft = &self.drafts[step];
        draft.name.as_ref().map_or(&draft.kind, |name| name.get_ref()).clone()
    }

    /// The port that a name in `from` means.
    pub(super) fn named(&self, name: &Spanned<String>) -> Result<(Port, String), Problem> {
        let text = name.get_ref();
        let (bare, way) = match text.rsplit_once('.') {
            Some((name, "true")) => (name, Output::True),
            Some((name, "false")) => (name, Output::False),
            _ => (text.as_str(), Output::Only),
        };
        let Some(&place) = self.places.get(bare) else {
            let known = self.places.keys().map(String::as_str);
            return Err(file::unknown("step or source", bare, name.span(), known));
        };
        let splits = matches!(place, NodeRef::Step(step) if matches!(self.drafts[step].operator, Operator::Split(_)));
        match (splits, way) {
            (true, Output::Only) => {
                let problem = Problem::new(format_args!("`{bare}` has two ways"), name.span());
                Err(problem.help(format_args!("write `{bare}.true` or `{bare}.false`")))
            }
            (false, Output::True | Output::False) => {
                Err(Problem::new(format_args!("`{bare}` is not a `split`"), name.span()))
            }
            _ => Ok((Port { place, way }, text.clone())),
        }
    }
}

/// The ways around which values can go.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    /// The `feedback` step into which they go.
    pub(crate) feedback: usize,
    /// The `union` at which they come out.
    pub(crate) head: usize,
    /// The steps from one to the other, both counted in.
    pub(crate) inside: BTreeSet<usize>,
}

/// The steps' edges: for each, the steps that its values come from.
pub(super) struct Wiring<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) inputs: &'a [From],
    pub(super) flushes: &'a [Option<Port>],
}

impl Wiring<'_> {
    fn sources_of(&self, step: usize) -> impl Iterator<Item = usize> {
        let ports = self.inputs[step].iter().map(|(port, _)| port).chain(&self.flushes[step]);
        ports.filter_map(|port| match port.place {
            NodeRef::Step(step) => Some(step),
            NodeRef::Source(_) => None,
        })
    }

    fn is_feedback(&self, step: usize) -> bool {
        matches!(self.drafts[step].operator, Operator::Feedback(_))
    }

    /// The loops that `feedback` steps make.
    pub(super) fn loops(&self) -> Result<Vec<Loop>, Problem> {
        let feedbacks = (0..self.drafts.len()).filter(|step| self.is_feedback(*step));
        feedbacks.map(|feedback| self.loop_of(feedback)).collect()
    }

    /// A loop that nothing leaves would never be over.
    pub(super) fn check_exits(&self, looping: &Loop, sinks: &[Port]) -> Result<(), Problem> {
        let inside = |port: &Port| matches!(port.place, NodeRef::Step(step) if looping.inside.contains(&step));
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
        let problem = Problem::new("nothing leaves the loop that this closes", span);
        Err(problem.help("let a `split` in it decide what goes round again and what goes on"))
    }

    fn loop_of(&self, feedback: usize) -> Result<Loop, Problem> {
        let span = self.drafts[feedback].span.clone();
        let takes = |step: &usize| self.sources_of(*step).any(|from| from == feedback);
        let heads: Vec<usize> = (0..self.drafts.len()).filter(takes).collect();
        let [head] = *heads else {
            let problem = Problem::new("a `feedback` is named in the `from` of one `union`", span);
            return Err(problem.help("give it a `name`, and name it where its values come out"));
        };
        if !matches!(self.drafts[head].kind.as_str(), "union") {
            let problem =
                Problem::new("a feedback comes out at a `union`", self.drafts[head].span.clone());
            return Err(problem.help("join it with what flows in for the first time"));
        }
        // What leads to the feedback, and of that what the head leads to.
        let leads = self.before(feedback);
        let inside: BTreeSet<usize> = leads
            .into_iter()
            .filter(|&step| step == head || self.before(step).contains(&head))
            .collect();
        if !inside.contains(&head) {
            let problem =
                Problem::new("nothing that leaves the `union` comes to this `feedback`", span);
            return Err(
                problem.help("a feedback closes a loop; use `union` alone where there is none")
            );
        }
        Ok(Loop { feedback, head, inside })
    }

    /// The step and all that leads to it, without going round.
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

    /// The steps, each after those that its values come from; and what leaves a loop after that loop's feedback.
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
                    Problem::new("the steps go round in a circle here", draft.span.clone());
                Err(problem.help("a loop is closed by a `feedback` step, which bounds it"))
            }
        }
    }
}

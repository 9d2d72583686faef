//! Checks that each step gets the flows that its operator takes, and that every output is taken.

use std::ops::Range;

use toml::Spanned;

use super::wiring::Draft;
use super::{NodeRef, Output, Port};
use crate::diagnostic::Problem;
use crate::file::Entry;
use crate::step::Operator;

/// Checks that a step gets as many flows as its operator takes.
pub(super) fn check_inputs(
    draft: &Draft,
    inputs: &[(Port, String)],
    drafts: &[Draft],
) -> Result<(), Problem> {
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
pub(super) fn check_all_used(
    sources: &[Entry<'_>],
    committed: &[Spanned<String>],
    drafts: &[Draft],
    used: &[Port],
) -> Result<(), Problem> {
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
    for (number, name) in committed.iter().enumerate() {
        if unused(NodeRef::Source(sources.len() + number), &[Output::Only]).is_some() {
            let what = format!("the committed offsets `{}`", name.get_ref());
            return left(&what, name.span());
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

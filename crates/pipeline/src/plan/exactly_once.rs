//! Checks that each answer depends on one request, as exactly-once delivery needs.

use super::wiring::{Draft, From};
use super::{NodeRef, Output, Port};
use crate::diagnostic::Problem;
use crate::step::Operator;

/// The steps of a plan, and the ports that steps and sinks take from.
pub(super) struct Steps<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) inputs: &'a [From],
    pub(super) used: &'a [Port],
    /// For each step, whether it takes the events of commits, which are no requests.
    pub(super) of_commits: &'a [bool],
}

impl Steps<'_> {
    /// Refuses steps whose results depend on several requests.
    ///
    /// With exactly-once delivery, an answer must depend on its own request alone. After a crash the
    /// requests are processed again in a new run, and an operator that combines requests, or
    /// remembers earlier ones, would give another result.
    pub(super) fn check(&self) -> Result<(), Problem> {
        for (number, draft) in self.drafts.iter().enumerate() {
            if self.of_commits[number] {
                continue;
            }
            let message = if self.gives_arrays(number) {
                format!("the arrays of `{}` are made of several requests", draft.kind)
            } else if self.combines(number) {
                format!("the results of `{}` depend on several requests", draft.kind)
            } else {
                continue;
            };
            let help = if draft.registered {
                "exactly once, an answer must depend on one request; if the results of this step do, register it with `stateless_step`"
            } else {
                "exactly once, an answer must depend on one request; use `delivery = \"at_least_once\"`"
            };
            return Err(Problem::new(message, draft.span.clone()).help(help));
        }
        Ok(())
    }

    /// Returns whether a result of the step is made of several requests. An operator that takes
    /// batches also takes arrays, and an array is part of one request.
    fn combines(&self, step: usize) -> bool {
        let operator = &self.drafts[step].operator;
        let whole_batches = || match self.inputs[step].first() {
            Some((Port { node: NodeRef::Step(from), .. }, _)) => self.gives_batches(*from),
            _ => false,
        };
        operator.nature().of_several
            && (!matches!(operator, Operator::Batches(_)) || whole_batches())
    }

    fn is_window(&self, step: usize) -> bool {
        matches!(self.drafts[step].operator, Operator::Window(_) | Operator::Collect(_))
    }

    /// Returns whether the step gives batches, whose members keep their own receipts. Its only taker
    /// takes batches then.
    fn gives_batches(&self, step: usize) -> bool {
        let port = Port { node: NodeRef::Step(step), output: Output::Only };
        let mut takers = (0..self.drafts.len())
            .filter(|taker| self.inputs[*taker].iter().any(|(from, _)| *from == port));
        let takes_batches = takers.any(|taker| {
            matches!(self.drafts[taker].operator, Operator::MapBatch(_) | Operator::Batches(_))
        });
        let takers = self.used.iter().filter(|used| **used == port).count();
        self.is_window(step) && takers == 1 && takes_batches
    }

    /// Returns whether the step turns each batch into an array.
    fn gives_arrays(&self, step: usize) -> bool {
        self.is_window(step) && !self.gives_batches(step)
    }
}

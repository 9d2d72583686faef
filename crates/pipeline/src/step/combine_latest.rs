//! `combine_latest`: when a flow has a new value, emits an array of the newest values of all flows.

use std::time::Duration;

use forebay_stream::{EmitOn, Flow};
use serde::Deserialize;

use super::{Join, NamedFlow, Nature};
use crate::diagnostic::Problem;
use crate::file::OneOrMore;
use crate::json::Json;

/// `from = ["a", "b"]` with `combine_latest = { emit_on = ["a"] }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CombineLatest {
    /// The names in `from` for which a new value emits an array; by default all.
    emit_on: Option<OneOrMore>,
    /// How long the step waits for a branch that is behind, if the flows are branches of one flow.
    #[serde(default, with = "crate::file::duration::option")]
    wait: Option<Duration>,
}

impl CombineLatest {
    fn emits(&self, name: &str) -> bool {
        let named = |names: &OneOrMore| names.0.iter().any(|known| known.get_ref() == name);
        self.emit_on.as_ref().is_none_or(named)
    }
}

impl Join for CombineLatest {
    fn apply(&self, first: NamedFlow, rest: Vec<NamedFlow>, name: &str) -> Flow<Json> {
        // First combines the flows in `emit_on` (`loud`), then the others (`quiet`). Finally sorts
        // the members into the order of `from`.
        let flows = [first].into_iter().chain(rest).enumerate();
        let (loud, quiet): (Vec<_>, Vec<_>) = flows.partition(|(_, from)| self.emits(&from.name));
        let positions: Vec<usize> =
            loud.iter().chain(&quiet).map(|(position, _)| *position).collect();
        let newest = |flows: Vec<(usize, NamedFlow)>, emit_on| {
            let combine = |left: Flow<Json>, right| {
                super::waiting(left.named(name), self.wait).combine_latest(right, emit_on)
            };
            let mut flows = flows.into_iter().map(|(_, from)| from.flow);
            Some(super::fold_pairs(flows.next()?, flows, combine))
        };
        let Some(loud) = newest(loud, EmitOn::Any) else {
            unreachable!("`emit_on` names at least one of the flows");
        };
        let Some(quiet) = newest(quiet, EmitOn::Any) else { return loud };
        let both = super::waiting(loud.named(name), self.wait);
        let both = both.combine_latest(quiet, EmitOn::First);
        both.named("array").map(move |(loud, quiet)| {
            let members = [loud, quiet].into_iter().flat_map(Json::members);
            let mut sorted: Vec<_> = positions.iter().copied().zip(members).collect();
            sorted.sort_unstable_by_key(|(position, _)| *position);
            Json::array(sorted.into_iter().map(|(_, member)| member))
        })
    }

    fn check(&self, from: &[String]) -> Result<(), Problem> {
        let Some(OneOrMore(emit_on)) = &self.emit_on else { return Ok(()) };
        if emit_on.is_empty() {
            return Err(Problem::anywhere("`emit_on` is empty, so nothing would ever be emitted"));
        }
        match emit_on.iter().find(|name| !from.contains(name.get_ref())) {
            Some(name) => {
                let message = format_args!("`{}` is not one of the joined steps", name.get_ref());
                let help = format_args!("`from` names {}", super::quoted(from));
                Err(Problem::new(message, name.span()).help(help))
            }
            None => Ok(()),
        }
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

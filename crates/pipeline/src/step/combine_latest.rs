//! `combine_latest`: when a flow has a new value, emits an array of the newest values of all flows.

use forebay_stream::{EmitOn, Flow};
use serde::Deserialize;
use toml::Spanned;

use super::Join;
use crate::diagnostic::Problem;
use crate::json::Json;

/// `from = ["a", "b"]` with `combine_latest = { emit_on = ["a"] }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CombineLatest {
    /// The names in `from` for which a new value emits an array; by default all.
    emit_on: Option<Vec<Spanned<String>>>,
}

impl CombineLatest {
    fn emits(&self, name: &str) -> bool {
        let named =
            |names: &Vec<Spanned<String>>| names.iter().any(|known| known.get_ref() == name);
        self.emit_on.as_ref().is_none_or(named)
    }
}

impl Join for CombineLatest {
    fn apply(&self, flows: Vec<Flow<Json>>, name: &str, from: &[String]) -> Option<Flow<Json>> {
        // First combines the flows in `emit_on` (`loud`), then the others (`quiet`). Finally sorts
        // the members into the order of `from`.
        let flows = flows.into_iter().zip(from).enumerate();
        let (loud, quiet): (Vec<_>, Vec<_>) = flows.partition(|(_, (_, from))| self.emits(from));
        let positions: Vec<usize> =
            loud.iter().chain(&quiet).map(|(position, _)| *position).collect();
        let newest = |flows: Vec<(usize, (Flow<Json>, &String))>, emit_on| {
            let combine = |left: Flow<Json>, right| left.named(name).combine_latest(right, emit_on);
            super::fold_pairs(flows.into_iter().map(|(_, (flow, _))| flow).collect(), combine)
        };
        let loud = newest(loud, EmitOn::Any)?;
        let quiet = newest(quiet, EmitOn::Any);
        let Some(quiet) = quiet else { return Some(loud) };
        let both = loud.named(name).combine_latest(quiet, EmitOn::First);
        Some(both.named("array").map(move |(loud, quiet)| {
            let members = [loud, quiet].into_iter().flat_map(Json::members);
            let mut sorted: Vec<_> = positions.iter().copied().zip(members).collect();
            sorted.sort_unstable_by_key(|(position, _)| *position);
            Json::array(sorted.into_iter().map(|(_, member)| member))
        }))
    }

    fn check(&self, from: &[String]) -> Result<(), Problem> {
        let Some(emit_on) = &self.emit_on else { return Ok(()) };
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
}

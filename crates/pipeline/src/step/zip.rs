//! `zip`: joins the n-th values of several flows into an array.

use forebay_stream::Flow;
use serde::Deserialize;

use super::{Join, NamedFlow, Nature};
use crate::file::Count;
use crate::json::Json;

/// `from = ["a", "b"]` with `zip = { capacity = 16, literals = ["v1"] }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zip {
    /// The most values that one flow may be ahead of the others.
    #[serde(default = "super::default_queue")]
    capacity: Count,
    /// Constant values at the end of every array.
    #[serde(default)]
    literals: Vec<Json>,
}

impl Join for Zip {
    fn apply(&self, first: NamedFlow, rest: Vec<NamedFlow>, name: &str) -> Flow<Json> {
        let zip = |left: Flow<Json>, right| left.named(name).zip(right, self.capacity.get());
        let arrays = super::fold_pairs(first.flow, rest.into_iter().map(|next| next.flow), zip);
        if self.literals.is_empty() {
            return arrays;
        }
        let literals = self.literals.clone();
        arrays.named("literals").map(move |array| {
            literals.iter().fold(array, |array, literal| array.pushed(literal.clone()))
        })
    }

    fn min_inputs(&self) -> usize {
        if self.literals.is_empty() { 2 } else { 1 }
    }

    fn nature(&self) -> Nature {
        Nature::SEVERAL
    }
}

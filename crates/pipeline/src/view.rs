//! `View`: a live view of a running pipeline.

use std::collections::BTreeMap;

use forebay_stream::{Graph, Tap};

use crate::json::Json;

/// A live view of a running pipeline: its graph with counters, and the values seen by its taps.
/// Clones show the same pipeline.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(crate) graph: Graph,
    pub(crate) taps: BTreeMap<String, Tap<Json>>,
}

impl View {
    /// Returns the pipeline's operators, with counters that are updated while it runs.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the last values that passed each `tap`, by the tap's name, oldest first.
    #[must_use]
    pub fn taps(&self) -> BTreeMap<&str, Vec<Json>> {
        self.taps.iter().map(|(name, tap)| (name.as_str(), tap.recent())).collect()
    }
}

//! `View`: a look into a running pipeline.

use std::collections::BTreeMap;

use forebay_stream::{Graph, Tap};

use crate::json::Json;

/// What a running pipeline shows of itself. Copies show the same pipeline.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(crate) graph: Graph,
    pub(crate) taps: BTreeMap<String, Tap<Json>>,
}

impl View {
    /// The pipeline's operators. Their counters go on counting.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The last values that passed each `tap`, by its name, the oldest first.
    #[must_use]
    pub fn taps(&self) -> BTreeMap<&str, Vec<Json>> {
        self.taps.iter().map(|(name, tap)| (name.as_str(), tap.recent())).collect()
    }
}

//! The graph of a plan that is not run.

use std::convert::Infallible;

use forebay_stream::{Event, Flow, Graph, Pipeline};

use crate::assemble::{Assembled, Counts, Taps, assemble};
use crate::nowhere::Nowhere;
use crate::plan::{ModelPlan, Plan, SourcePlan};
use crate::task::{Task, TextTask};

impl Plan {
    /// What the pipeline is made of, without connecting to or loading anything.
    #[must_use]
    pub fn graph(&self) -> Graph {
        let empty = |source: &SourcePlan| {
            let nothing = futures::stream::empty::<Result<Event<_>, Infallible>>();
            Flow::from_try_events(source.title(), nothing)
        };
        let records = self.sources.iter().map(empty).collect();
        let task = |model: &str| self.stub(model);
        let Assembled { answers, dead_letters } =
            assemble(self, records, &task, &Counts::default(), &mut Taps::new());
        let answers = answers.into_iter().zip(&self.sinks);
        let pipelines = answers.map(|(answers, sink)| answers.sink(sink.end.title(), Nowhere));
        let dead_letters = dead_letters.zip(self.on_failure.policy.title());
        let dead_letters = dead_letters.map(|(letters, title)| letters.sink(title, Nowhere));
        merged(&pipelines.chain(dead_letters).collect::<Vec<_>>())
    }

    /// Stands for a model in a pipeline that is drawn and not run.
    pub(crate) fn stub(&self, model: &str) -> Task {
        match self.models.get(model) {
            Some(ModelPlan::Text(_)) => Task::Text(TextTask::stub()),
            Some(ModelPlan::Custom(_)) | None => Task::json_stub(),
        }
    }
}

/// One graph of all pipelines of a plan.
pub(crate) fn merged(pipelines: &[Pipeline]) -> Graph {
    let mut graph = Graph::default();
    for pipeline in pipelines {
        graph.merge(pipeline.graph().clone());
    }
    graph
}

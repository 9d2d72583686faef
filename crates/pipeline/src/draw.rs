//! Draws a plan without running it.

use std::convert::Infallible;

use forebay_stream::{Event, Flow, Graph, Pipeline};
use tokio_util::sync::CancellationToken;

use crate::assemble::{Assembled, Assembler, Taps};
use crate::counts::Counts;
use crate::plan::{ModelPlan, Plan, STOP};
use crate::sink::Nowhere;
use crate::source::AnySource;
use crate::task::{Task, TextTask};

impl Plan {
    /// Returns the graph of the pipeline's operators. Connects to nothing and loads no model.
    #[must_use]
    pub fn graph(&self) -> Graph {
        let hide = |title: String| self.secrets.hide(&title, "");
        let empty = |source: &AnySource| {
            let nothing = futures::stream::empty::<Result<Event<_>, Infallible>>();
            Flow::from_try_events(hide(source.end().title()), nothing)
        };
        let records = self.sources.iter().map(empty).collect();
        let task = |model: &str| self.stub(model);
        let counts = Counts::default();
        let taps = &mut Taps::new();
        let stop = CancellationToken::new();
        let assembler = Assembler { plan: self, task: &task, counts: &counts, taps, stop: &stop };
        let Assembled { answers, dead_letters, stops } = assembler.assemble(records);
        let answers = answers.into_iter().zip(&self.sinks);
        let pipelines =
            answers.map(|(answers, sink)| answers.sink(hide(sink.sink.end().title()), Nowhere));
        let dead_letters = dead_letters.zip(self.on_failure.policy.title().map(hide));
        let dead_letters = dead_letters.map(|(letters, title)| letters.sink(title, Nowhere));
        let stops = stops.map(|failures| failures.sink(STOP, Nowhere));
        merged(&pipelines.chain(dead_letters).chain(stops).collect::<Vec<_>>())
    }

    /// Returns a placeholder for a model, for a pipeline that is only drawn.
    pub(crate) fn stub(&self, model: &str) -> Task {
        match self.models.get(model) {
            Some(ModelPlan::Text(_)) => Task::Text(TextTask::stub()),
            Some(ModelPlan::Custom(_)) => Task::json_stub(),
            None => unreachable!("steps name models of the plan only"),
        }
    }
}

/// Merges the graphs of a plan's pipelines into one.
pub(crate) fn merged<'a>(pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Graph {
    let mut graph = Graph::default();
    for pipeline in pipelines {
        graph.merge(pipeline.graph().clone());
    }
    graph
}

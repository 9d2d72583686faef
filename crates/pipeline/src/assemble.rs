//! From a plan to a flow: the same code builds what runs and what is drawn.

use std::num::NonZeroUsize;

use bytes::Bytes;
use forebay_stream::{Batches, Event, Flow, Graph, Pipeline, Release, Sink};
use serde_json::Value;

use crate::answer::Answer;
use crate::plan::{Plan, SinkPlan, SourcePlan, StepPlan};
use crate::request;
use crate::task::Task;

/// What flows between two steps.
enum Stage {
    Single(Flow<Value>),
    Batched(Batches<Value>),
}

/// Builds everything between the source's records and the answers that the sink takes.
///
/// `task` finds the task of a model; [`Plan`] has seen to it that there is one.
pub(crate) fn assemble(
    plan: &Plan,
    records: Flow<Option<Bytes>>,
    task: &dyn Fn(&str) -> Task,
) -> Flow<Answer> {
    let (capacity, release) = in_flight(plan);
    let (records, failures) = records.catch(capacity, release);
    let requests = records.named("decode").try_map(|record| request::decode(record.as_ref()));

    let mut stage = Stage::Single(requests);
    for step in &plan.steps {
        stage = apply(stage, step, task);
    }
    let results = match stage {
        Stage::Single(flow) => flow,
        Stage::Batched(batches) => batches.into_lists().map(Value::Array),
    };

    let errors = failures.named("error reply").map(|failed| {
        tracing::debug!(failure = %failed.failure, "answering with an error");
        Answer::failure(&failed.failure)
    });
    results.named("encode").map(|value| Answer::result(&value)).rejoin(errors)
}

fn apply(stage: Stage, step: &StepPlan, task: &dyn Fn(&str) -> Task) -> Stage {
    match (step, stage) {
        (StepPlan::TimedWindow { interval, max_size }, stage) => {
            Stage::Batched(single(stage).timed_window(*interval, *max_size))
        }
        (StepPlan::Partition { size, timeout }, stage) => {
            Stage::Batched(single(stage).partition(*size, *timeout))
        }
        (StepPlan::Flatten, stage) => Stage::Single(single(stage)),
        (StepPlan::MapBatch { model }, Stage::Batched(batches)) => {
            let task = task(model);
            let named = batches.named(format!("map_batch({model})"));
            Stage::Single(named.map_batch(move |requests| task(requests)))
        }
        // The plan has refused steps that do not fit; single elements are what a batch of one would be.
        (StepPlan::MapBatch { .. }, Stage::Single(flow)) => {
            apply(Stage::Batched(flow.partition(NonZeroUsize::MIN, None)), step, task)
        }
    }
}

fn single(stage: Stage) -> Flow<Value> {
    match stage {
        Stage::Single(flow) => flow,
        Stage::Batched(batches) => batches.flatten(),
    }
}

/// How many inputs may be unresolved, and whether errors stand in their inputs' places.
fn in_flight(plan: &Plan) -> (NonZeroUsize, Release) {
    const LINES: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");
    match &plan.source {
        SourcePlan::Kafka(config) => (config.max_in_flight, Release::AtOnce),
        SourcePlan::Stdin | SourcePlan::File(_) => {
            let held = plan.steps.iter().map(|step| match step {
                StepPlan::TimedWindow { max_size: size, .. } | StepPlan::Partition { size, .. } => {
                    size.get()
                }
                StepPlan::Flatten | StepPlan::MapBatch { .. } => 0,
            });
            (LINES.saturating_add(held.sum()), Release::InOrder)
        }
    }
}

/// The names of the ends, as graphs and logs show them.
pub(crate) fn source_name(plan: &Plan) -> String {
    match &plan.source {
        SourcePlan::Kafka(config) => format!("kafka: {}", config.topic),
        SourcePlan::Stdin => "stdin".to_owned(),
        SourcePlan::File(path) => format!("file: {}", path.display()),
    }
}

/// See [`source_name`].
pub(crate) fn sink_name(plan: &Plan) -> String {
    match &plan.sink {
        SinkPlan::Kafka(config) => format!("kafka: {}", config.topic),
        SinkPlan::Stdout => "stdout".to_owned(),
        SinkPlan::File(path) => format!("file: {}", path.display()),
    }
}

/// The graph of a plan: the pipeline itself, over an empty source and a sink that takes nothing.
pub(crate) fn draw(plan: &Plan, task: &Task) -> Graph {
    struct Nowhere;
    impl Sink<Answer> for Nowhere {
        type Error = std::convert::Infallible;

        async fn send(&mut self, event: Event<Answer>) -> Result<(), Self::Error> {
            event.receipt.done();
            Ok(())
        }
    }
    let empty = futures::stream::empty::<Result<Event<_>, std::convert::Infallible>>();
    let answers =
        assemble(plan, Flow::from_try_events(source_name(plan), empty), &|_| task.clone());
    let pipeline: Pipeline = answers.sink(sink_name(plan), Nowhere);
    pipeline.graph().clone()
}

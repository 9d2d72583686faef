//! Assembles a plan's operators into the flows of its sinks. Running a plan and drawing it
//! (`draw.rs`) use the same code.

mod steps;
mod wires;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use forebay_stream::{Failed, Flow, Meta, Tap};
use tokio_util::sync::CancellationToken;

use self::steps::Steps;
use crate::answer::Answer;
use crate::counts::{Counts, Failing};
use crate::file::Order;
use crate::json::Json;
use crate::plan::{Plan, Policy};
use crate::record::Record;
use crate::source::{AnySource, SourceEnd};
use crate::task::Task;

/// The handles of the `tap` steps, by their names.
pub(crate) type Taps = BTreeMap<String, Tap<Json>>;

/// Assembles the operators of a plan.
pub(crate) struct Assembler<'a> {
    pub(crate) plan: &'a Plan,
    /// Returns the task of a model by its name. It is called with the names of models in the plan's
    /// steps, and must know them all.
    pub(crate) task: &'a dyn Fn(&str) -> Task,
    pub(crate) counts: &'a Counts,
    pub(crate) taps: &'a mut Taps,
    /// Once it is cancelled, values no longer go round loops.
    pub(crate) stop: &'a CancellationToken,
}

/// The flows of an assembled pipeline.
pub(crate) struct Assembled {
    /// The answers for each sink, in the plan's order.
    pub(crate) answers: Vec<Flow<Answer>>,
    /// The dead letters, if the policy keeps them.
    pub(crate) dead_letters: Option<Flow<Failed<Record>>>,
    /// The failures that stop the pipeline, if the policy is `stop`.
    pub(crate) stops: Option<Flow<Failed<Record>>>,
}

/// The flows of failed requests. The policy decides which of them exist.
#[derive(Default)]
struct Failures {
    replies: Option<Flow<Answer>>,
    dead_letters: Option<Flow<Failed<Record>>>,
    stops: Option<Flow<Failed<Record>>>,
}

impl Assembler<'_> {
    /// Assembles the flows from the sources' records to the answers for the sinks.
    pub(crate) fn assemble(mut self, records: Vec<Flow<Record>>) -> Assembled {
        let mut failures: Option<Flow<Failed<Record>>> = None;
        let mut caught = Vec::new();
        for (source, records) in self.plan.sources.iter().zip(records) {
            if source.is_committed() {
                caught.push(records);
                continue;
            }
            let (records, failed) = self.catch(source.end(), records);
            caught.push(self.with_breaker(records));
            failures = match (failures, failed) {
                (Some(failures), Some(failed)) => Some(failures.union(failed)),
                (one, other) => one.or(other),
            };
        }
        let failures = failures.map(|flow| self.by_policy(flow)).unwrap_or_default();
        let Failures { mut replies, dead_letters, stops } = failures;
        let answers = match self.plan.order_of_answers {
            Order::Key => self.in_key_order(caught),
            Order::None => self.answers(caught),
        };

        // Error replies go to the first sink of answers that is not `drop`.
        let mut sinks = self.plan.sinks.iter().enumerate().filter(|(_, sink)| !sink.of_commits);
        let first = sinks.clone().next();
        let kept = sinks.find(|(_, sink)| !sink.sink.drops()).or(first).map(|(number, _)| number);
        let answers = answers.into_iter().enumerate().map(|(number, answers)| {
            match replies.take_if(|_| Some(number) == kept) {
                Some(replies) => answers.rejoin(replies),
                None => answers,
            }
        });
        Assembled { answers: answers.collect(), dead_letters, stops }
    }

    /// Separates the failed requests of a source, unless the source itself answers them.
    fn catch(
        &self,
        source: &dyn SourceEnd,
        records: Flow<Record>,
    ) -> (Flow<Record>, Option<Flow<Failed<Record>>>) {
        let release = match self.plan.on_failure.policy {
            Policy::Stop => Some(forebay_stream::Release::AtOnce),
            Policy::Reply | Policy::DeadLetter { .. } => source.error_replies(),
        };
        match release {
            Some(release) => {
                let (records, failed) = records.catch(source.max_in_flight(), release);
                (records, Some(failed))
            }
            None => (records, None),
        }
    }

    /// Adds the circuit breaker, if the plan has one.
    fn with_breaker(&self, records: Flow<Record>) -> Flow<Record> {
        match &self.plan.on_failure.breaker {
            Some(breaker) => records.breaker(*breaker),
            None => records,
        }
    }

    /// Turns failed requests into error replies, dead letters, or both, or lets them stop the
    /// pipeline.
    fn by_policy(&self, failures: Flow<Failed<Record>>) -> Failures {
        let counts = self.counts.clone();
        let count = move |failed: &Failed<Record>, meta: &Meta, failing| {
            counts.failed(&failed.failure, meta, failing);
        };
        let reply = |failed: &Failed<Record>| Answer::failure(&failed.failure);
        let dead_letters = |flow: Flow<Failed<Record>>| {
            let count = count.clone();
            flow.named("dead letter").map_with_meta(move |failed, meta| {
                count(&failed, meta, Failing::DeadLetter);
                failed
            })
        };
        match self.plan.on_failure.policy {
            Policy::Reply => {
                let replies = failures.named("error reply").map_with_meta(move |failed, meta| {
                    count(&failed, meta, Failing::Error);
                    reply(&failed)
                });
                Failures { replies: Some(replies), ..Failures::default() }
            }
            Policy::Stop => Failures { stops: Some(failures), ..Failures::default() },
            Policy::DeadLetter { reply: false, .. } => {
                Failures { dead_letters: Some(dead_letters(failures)), ..Failures::default() }
            }
            Policy::DeadLetter { reply: true, .. } => {
                let [answered, kept] = failures.branch(NonZeroUsize::MIN);
                let replies = answered.named("error reply").map(move |failed| reply(&failed));
                Failures {
                    replies: Some(replies),
                    dead_letters: Some(dead_letters(kept)),
                    ..Failures::default()
                }
            }
        }
    }

    /// Assembles the steps so that the answers to each key leave in the order of its requests. The
    /// plan has one source of requests, the first one, and one sink of answers.
    fn in_key_order(&mut self, records: Vec<Flow<Record>>) -> Vec<Flow<Answer>> {
        let plan = self.plan;
        let mut records = records.into_iter();
        let (Some(requests), Some(source)) = (records.next(), plan.sources.first()) else {
            unreachable!("every plan has a source");
        };
        let Some(sink) = plan.sinks.iter().position(|sink| !sink.of_commits) else {
            unreachable!("every plan has a sink of answers");
        };
        let mut answers = Vec::new();
        let ordered = requests.in_key_order(source.end().max_in_flight(), |requests| {
            answers = self.answers(std::iter::once(requests).chain(records).collect());
            answers.remove(sink)
        });
        answers.insert(sink, ordered);
        answers
    }

    /// Assembles the steps, and returns the answers for each sink.
    fn answers(&mut self, records: Vec<Flow<Record>>) -> Vec<Flow<Answer>> {
        let sources = self.plan.sources.iter().zip(records);
        let values = sources.map(|(source, records)| self.values(source, records)).collect();
        let results = Steps::new(self.plan, self.task, self.taps, self.stop).assemble(values);
        let encode =
            |results: Flow<Json>| results.named("encode").try_map(|value| Answer::result(&value));
        results.into_iter().map(encode).collect()
    }

    /// Decodes the records of a source.
    fn values(&self, source: &AnySource, records: Flow<Record>) -> Flow<Json> {
        let records = match &self.plan.on_failure.retry {
            Some(retry) => records.retry(*retry, source.end().max_in_flight()),
            None => records,
        };
        let records = if source.end().has_headers() {
            let deadlines = self.plan.deadlines.clone();
            records.named("deadline").admit(move |meta| deadlines.check(meta))
        } else {
            records
        };
        let format = source.end().format();
        records.named("decode").try_map(move |record| record.decode(format))
    }
}

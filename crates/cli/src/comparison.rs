//! Runs two sentiment pipelines for a comparison, one with batches and one with single requests.
//! Each has its own topics.

use anyhow::Context as _;
use forebay_kafka::{EmbeddedBroker, create_topics};
use forebay_pipeline::Plan;

use crate::run::PARTITIONS;
use crate::running::{Pipelines, Running};
use crate::sentiment::{self, ModelArgs};

/// The broker of both pipelines, and the names from which their topics and groups are derived.
pub(crate) struct Setting {
    broker: Broker,
    batched: String,
    one_by_one: String,
}

enum Broker {
    Embedded(EmbeddedBroker),
    At(String),
}

/// The two running pipelines.
pub(crate) struct Comparison {
    pub(crate) batched: Running,
    pub(crate) one_by_one: Running,
}

impl Setting {
    /// Starts a broker in this process. Drop the returned value after the runtime, which runs the
    /// clients: they log errors if the broker ends first.
    pub(crate) fn embedded() -> anyhow::Result<Self> {
        let [batched, one_by_one] = ["batched", "one-by-one"].map(str::to_owned);
        let topics = topics([&batched, &one_by_one]);
        let broker = EmbeddedBroker::start(&borrowed(&topics))
            .context("cannot start the embedded broker")?;
        Ok(Self { broker: Broker::Embedded(broker), batched, one_by_one })
    }

    /// Uses the cluster at `brokers`. The names of the topics contain the process id, so that runs
    /// on the same cluster do not share topics.
    pub(crate) async fn at(brokers: &str) -> anyhow::Result<Self> {
        let name = |run: &str| format!("bench-{}-{run}", std::process::id());
        let [batched, one_by_one] = ["batched", "one-by-one"].map(name);
        create_topics(brokers, &borrowed(&topics([&batched, &one_by_one]))).await?;
        Ok(Self { broker: Broker::At(brokers.to_owned()), batched, one_by_one })
    }

    /// Returns the bootstrap servers.
    pub(crate) fn brokers(&self) -> String {
        match &self.broker {
            Broker::Embedded(broker) => broker.bootstrap_servers(),
            Broker::At(brokers) => brokers.clone(),
        }
    }

    /// Returns the topics of requests and replies of the batched pipeline.
    pub(crate) fn batched_topics(&self) -> (String, String) {
        sentiment::topics(&self.batched)
    }

    /// Starts both pipelines.
    pub(crate) async fn start(
        &self,
        args: &ModelArgs,
        pipelines: &Pipelines,
    ) -> anyhow::Result<Comparison> {
        let plan = self.at_broker(sentiment::plan(args, &self.batched)?);
        let batched = Running::start(plan, &self.batched, pipelines).await?;
        let plan = self.at_broker(sentiment::one_by_one(args, &self.one_by_one)?);
        let one_by_one = Running::start(plan, &self.one_by_one, pipelines).await?;
        Ok(Comparison { batched, one_by_one })
    }

    fn at_broker(&self, plan: Plan) -> Plan {
        match &self.broker {
            Broker::Embedded(broker) => plan.at_embedded_broker(broker),
            Broker::At(brokers) => plan.at_brokers(brokers),
        }
    }
}

fn topics(runs: [&str; 2]) -> Vec<(String, i32)> {
    let topics = runs.map(sentiment::topics);
    topics
        .into_iter()
        .flat_map(|(requests, replies)| [requests, replies])
        .map(|topic| (topic, PARTITIONS))
        .collect()
}

fn borrowed(topics: &[(String, i32)]) -> Vec<(&str, i32)> {
    topics.iter().map(|(topic, partitions)| (topic.as_str(), *partitions)).collect()
}

//! The topic of requests itself changes.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use serde_json::json;
use tokio::time::sleep;

use crate::field::{Field, PARTITIONS, Plan, STOP, Summary};
use crate::lab::Lab;
use crate::ledger::{Duplicates, Order};

const RATE: u32 = 200;

/// It gets twice as many partitions. A key's requests lie in two of them then, which have no order between them.
pub(super) async fn more_partitions(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(lab, "more-partitions");
    plan.order = Order::None;
    plan.pipeline.source_options.push(("topic.metadata.refresh.interval.ms", "1000".into()));
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.start("b").await?;
    field.await_answers(200).await?;
    let topic = field.pipeline.requests.clone();
    lab.client.call(json!({"op": "partitions", "topic": topic, "count": 2 * PARTITIONS})).await?;
    field.sleep(Duration::from_secs(10)).await?;
    let partitions = field.ledger.lock().ends().len();
    field.note(format!("requests in {partitions} partitions"));
    field.settle().await
}

/// It is deleted and made again. A worker may end with a reason or go on; what is asked then is answered.
pub(super) async fn recreated(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(lab, "recreated");
    plan.duplicates = Duplicates::Counted;
    plan.order = Order::None;
    plan.pipeline.source_options.push(("topic.metadata.refresh.interval.ms", "1000".into()));
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    field.load.stop().await?;
    field.await_quiet().await?;

    let mut worker = field.take("a")?;
    let topics = [field.pipeline.requests.as_str()];
    lab.client.call(json!({"op": "delete", "topics": topics})).await?;
    let absent = Duration::from_millis(field.random.random_range(0..3000));
    sleep(absent).await;
    field.ledger.lock().recreated();
    lab.client.create(&topics, PARTITIONS, json!({"min.insync.replicas": "2"})).await?;
    lab.await_topic(topics[0]).await?;
    field.restart_oracle();
    field.load.rate(RATE);
    // It may take a while to find out, in any way.
    sleep(Duration::from_secs(8)).await;
    let ended = worker.try_exit()?.is_some();
    if ended {
        let exit = worker.exit(STOP).await?;
        field.note(format!("the worker ended by {:?}: {}", exit.code, exit.last_line));
        field.start("a").await?;
    } else {
        field.note("the worker went on");
        field.put_back(worker);
    }
    field.note(format!("the topic was away for {} ms", absent.as_millis()));
    field.await_answers(200).await?;
    field.settle().await
}

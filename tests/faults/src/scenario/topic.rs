//! Changes of the topic of requests: more partitions, or deleted and created again.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use serde_json::json;
use tokio::time::sleep;

use crate::ledger::{Duplicates, Order};
use crate::run::{PARTITIONS, Plan, Run, STOP, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// Doubles the number of partitions. The requests of a key may then be in two partitions, which
/// have no order between them, so the order of the answers is not checked.
pub(super) async fn more_partitions(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "more-partitions");
    plan.order = Order::None;
    plan.pipeline.source_options.push(("topic.metadata.refresh.interval.ms", "1000".into()));
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.start("b").await?;
    run.await_answers(200).await?;
    let topic = run.pipeline.requests.clone();
    suite.client.call(json!({"op": "partitions", "topic": topic, "count": 2 * PARTITIONS})).await?;
    run.sleep(Duration::from_secs(10)).await?;
    let partitions = run.ledger.lock().ends().len();
    run.note(format!("requests in {partitions} partitions"));
    run.settle().await
}

/// Deletes the topic and creates it again. The worker may end with a reason or go on; requests to
/// the new topic are answered.
pub(super) async fn recreated(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "recreated");
    plan.duplicates = Duplicates::Counted;
    plan.order = Order::None;
    plan.pipeline.source_options.push(("topic.metadata.refresh.interval.ms", "1000".into()));
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    run.load.stop().await?;
    run.await_quiet().await?;

    let mut worker = run.take("a")?;
    let topics = [run.pipeline.requests.as_str()];
    suite.client.call(json!({"op": "delete", "topics": topics})).await?;
    let absent = Duration::from_millis(run.random.random_range(0..3000));
    sleep(absent).await;
    run.ledger.lock().recreated();
    suite.client.create(&topics, PARTITIONS, json!({"min.insync.replicas": "2"})).await?;
    suite.await_topic(topics[0]).await?;
    run.restart_checks();
    run.load.rate(RATE);
    // Gives the worker time to notice the new topic, or to end because the old one is missing.
    sleep(Duration::from_secs(8)).await;
    let ended = worker.try_exit()?.is_some();
    if ended {
        let exit = worker.exit(STOP).await?;
        run.note(format!("the worker ended by {:?}: {}", exit.code, exit.last_line));
        run.start("a").await?;
    } else {
        run.note("the worker went on");
        run.put_back(worker);
    }
    run.note(format!("the topic was missing for {} ms", absent.as_millis()));
    run.await_answers(200).await?;
    run.settle().await
}

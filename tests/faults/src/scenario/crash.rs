//! A worker that is killed: no request is lost, and only requests in flight or uncommitted are
//! answered twice.

use anyhow::Result;

use crate::ledger::{Duplicates, Order};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 300;

pub(super) async fn kill(suite: &Suite, seed: u64, static_members: bool) -> Result<Summary> {
    let mut plan = Plan::new(suite, if static_members { "kill-static" } else { "kill" });
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.static_members = static_members;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    // The time from the start of a worker to its kill, in milliseconds. Without static membership,
    // a worker gets its partitions only after the session of the killed one has expired. A longer
    // range makes sure that some kills hit a worker with partitions.
    let alive = if static_members { 50..1500 } else { 50..5000 };
    for _ in 0..suite.times.unwrap_or(10) {
        run.start("a").await?;
        run.sleep_between(alive.clone()).await?;
        run.kill("a").await?;
    }
    run.start("a").await?;
    run.settle().await
}

/// Kills workers while `order = "key"` keeps all answers to a key, including errors, in order.
pub(super) async fn key_order(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "key-order");
    plan.duplicates = Duplicates::Bounded;
    plan.order = Order::All;
    plan.malformed = 20;
    plan.pipeline.order_by_key = true;
    plan.pipeline.static_members = true;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    for _ in 0..suite.times.unwrap_or(5) {
        run.start("a").await?;
        run.sleep_between(500..2500).await?;
        run.kill("a").await?;
    }
    run.start("a").await?;
    run.settle().await
}

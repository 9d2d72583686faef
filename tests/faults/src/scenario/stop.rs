//! A worker that is told to stop.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use tokio::time::sleep;

use crate::field::{Field, Plan, STOP, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;
use crate::pipeline::{ANSWER, BATCH, slow};

const RATE: u32 = 300;

/// In order: nothing is lost and nothing is answered twice.
pub(super) async fn under_load(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut field = Field::open(lab, Plan::new(lab, "term"), seed).await?;
    field.load.rate(RATE);
    let mut longest = Duration::ZERO;
    for _ in 0..lab.times.unwrap_or(5) {
        field.start("a").await?;
        field.await_answers(100).await?;
        field.sleep_between(0..1000).await?;
        longest = longest.max(field.stop("a").await?.took);
    }
    field.note(format!("stopped within {:.1} s", longest.as_secs_f64()));
    field.start("a").await?;
    field.settle().await
}

/// At once: exit code 130, nothing lost, and what was in flight may be answered twice.
pub(super) async fn twice(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(lab, "term-twice");
    plan.duplicates = Duplicates::Counted;
    plan.pipeline.steps = format!("{ANSWER}{}{BATCH}", slow("700ms"));
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    for _ in 0..lab.times.unwrap_or(3) {
        field.start("a").await?;
        field.await_answers(100).await?;
        let mut worker = field.take("a")?;
        worker.signal("TERM").await?;
        sleep(Duration::from_millis(field.random.random_range(1..100))).await;
        // One that is done by now has stopped in order.
        let expected = if worker.try_exit()?.is_some() {
            0
        } else {
            worker.signal("TERM").await?;
            130
        };
        let exit = worker.exit(STOP).await?;
        if exit.code != Some(expected) || exit.took > Duration::from_secs(2) {
            return Err(worker.broken(&format!("ended by {exit:?} instead of {expected}, at once")));
        }
    }
    field.start("a").await?;
    field.settle().await
}

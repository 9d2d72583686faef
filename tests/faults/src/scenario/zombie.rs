//! A worker that stands still for longer than its session, and goes on as if nothing had been.

use std::time::Duration;

use anyhow::Result;

use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;

const RATE: u32 = 300;

/// Twice the session timeout.
const STILL: Duration = Duration::from_secs(4);

/// Another member takes its partitions meanwhile, or nobody does.
pub(super) async fn zombie(lab: &Lab, seed: u64, with_heir: bool) -> Result<Summary> {
    let mut plan = Plan::new(lab, if with_heir { "zombie" } else { "zombie-alone" });
    plan.duplicates = Duplicates::Bounded;
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    if with_heir {
        field.start("b").await?;
    }
    for _ in 0..lab.times.unwrap_or(3) {
        field.await_answers(300).await?;
        field.sleep_between(0..1000).await?;
        field.worker("a")?.signal("STOP").await?;
        field.expect_takeover().await?;
        field.sleep(STILL).await?;
        field.worker("a")?.signal("CONT").await?;
        field.sleep_between(0..3000).await?;
    }
    field.settle().await
}

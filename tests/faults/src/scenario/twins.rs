//! Two workers with the same identity.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::run::{Plan, Run, STOP, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// Starts two workers with the same `group.instance.id` and, with exactly-once delivery, the same
/// `transactions.id`. The older worker is fenced, and ends with an error that tells this.
pub(super) async fn twins(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "twins");
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.static_members = true;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    let mut older = run.take("a")?;
    // The younger worker takes over the partitions at some moment between the two calls of
    // `expect_takeover`.
    run.expect_takeover().await?;
    run.start("a").await?;
    let exit = older.exit(STOP).await?;
    if exit.code == Some(0) || exit.code.is_none() {
        return Err(older.broken(&format!("ended by {exit:?}, as if it had not been fenced")));
    }
    run.expect_takeover().await?;
    run.note(format!("the older ended by {:?}: {}", exit.code.unwrap_or(0), exit.last_line));
    run.await_answers(300).await?;
    run.sleep(Duration::from_secs(3)).await?;
    run.settle().await
}

//! Two workers that believe to be the same one.

use std::time::Duration;

use anyhow::Result;

use crate::field::{Field, Plan, STOP, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;

const RATE: u32 = 200;

/// The same `group.instance.id`, and with exactly once the same id of transactions: the older one ends, and says why.
pub(super) async fn twins(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(lab, "twins");
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.static_members = true;
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    let mut older = field.take("a")?;
    // Its twin has what it holds at some moment between these two.
    field.expect_takeover().await?;
    field.start("a").await?;
    let exit = older.exit(STOP).await?;
    if exit.code == Some(0) || exit.code.is_none() {
        return Err(older.broken(&format!("ended by {exit:?}, as if it had not been fenced")));
    }
    field.expect_takeover().await?;
    field.note(format!("the older ended by {:?}: {}", exit.code.unwrap_or(0), exit.last_line));
    field.await_answers(300).await?;
    field.sleep(Duration::from_secs(3)).await?;
    field.settle().await
}

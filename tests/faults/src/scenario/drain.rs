//! Partitions that move while what is in flight takes longer than a drain may.

use std::time::Duration;

use anyhow::Result;

use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;
use crate::pipeline::{ANSWER, BATCH, slow};

/// What is in flight at any time is below the pipeline's bound.
const RATE: u32 = 60;

/// The old owner's late answers are seen and not committed; the new one answers again.
pub(super) async fn too_slow(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(lab, "slow-drain");
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.steps = format!("{ANSWER}{}{BATCH}", slow("3s"));
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(50).await?;
    for _ in 0..lab.times.unwrap_or(2) {
        // One comes and one goes, and each takes partitions from somebody.
        let moved = 2 * usize::try_from(field.pipeline.max_in_flight)?;
        field.ledger.lock().allow(moved);
        field.start("b").await?;
        field.sleep(Duration::from_secs(6)).await?;
        field.stop("b").await?;
        field.sleep(Duration::from_secs(3)).await?;
    }
    field.settle().await
}

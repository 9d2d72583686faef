//! Partitions that move while what is in flight takes longer than a drain may.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::pipeline::{ANSWER, BATCH, slow};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

/// What is in flight at any time is below the pipeline's bound.
const RATE: u32 = 60;

/// The old owner's late answers are seen and not committed; the new one answers again.
pub(super) async fn too_slow(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "slow-drain");
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.steps = format!("{ANSWER}{}{BATCH}", slow("3s"));
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(50).await?;
    for _ in 0..suite.times.unwrap_or(2) {
        // One comes and one goes, and each takes partitions from somebody.
        let moved = 2 * usize::try_from(run.pipeline.max_in_flight)?;
        run.ledger.lock().allow(moved);
        run.start("b").await?;
        run.sleep(Duration::from_secs(6)).await?;
        run.stop("b").await?;
        run.sleep(Duration::from_secs(3)).await?;
    }
    run.settle().await
}

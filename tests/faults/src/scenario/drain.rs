//! Partitions that move while the requests in flight take longer than `drain_timeout`.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::pipeline::{ANSWER, BATCH, slow};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

/// With the delay of 3 s, 180 requests are in flight, which is below `max_in_flight`.
const RATE: u32 = 60;

/// Lets a second worker join and leave. The old owner of a partition answers too late: its answers
/// are not committed, and the new owner answers the requests again.
pub(super) async fn too_slow(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = Plan::new(suite, "slow-drain");
    plan.duplicates = Duplicates::Bounded;
    plan.pipeline.steps = format!("{ANSWER}{}{BATCH}", slow("3s"));
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(50).await?;
    for _ in 0..suite.times.unwrap_or(2) {
        // Partitions move twice: when `b` joins and when it leaves.
        let moved = 2 * usize::try_from(run.pipeline.max_in_flight)?;
        run.ledger.lock().allow_duplicates(moved);
        run.start("b").await?;
        run.sleep(Duration::from_secs(6)).await?;
        run.stop("b").await?;
        run.sleep(Duration::from_secs(3)).await?;
    }
    run.settle().await
}

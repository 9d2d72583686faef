//! A worker that is frozen for longer than its session timeout, and then resumes.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 300;

/// Twice the session timeout.
const FROZEN: Duration = Duration::from_secs(4);

/// Freezes a worker and resumes it. If `with_heir`, a second worker runs, which takes over the
/// partitions meanwhile.
pub(super) async fn zombie(suite: &Suite, seed: u64, with_heir: bool) -> Result<Summary> {
    let mut plan = Plan::new(suite, if with_heir { "zombie" } else { "zombie-alone" });
    plan.duplicates = Duplicates::Bounded;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    if with_heir {
        run.start("b").await?;
    }
    for _ in 0..suite.times.unwrap_or(3) {
        run.await_answers(300).await?;
        run.sleep_between(0..1000).await?;
        run.worker("a")?.signal("STOP").await?;
        run.expect_takeover().await?;
        run.sleep(FROZEN).await?;
        run.worker("a")?.signal("CONT").await?;
        run.sleep_between(0..3000).await?;
    }
    run.settle().await
}

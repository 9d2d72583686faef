//! A worker that is stopped by SIGTERM.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::Rng as _;
use tokio::time::sleep;

use crate::ledger::Duplicates;
use crate::pipeline::{ANSWER, BATCH, slow};
use crate::run::{Plan, Run, STOP, Summary};
use crate::suite::Suite;

const RATE: u32 = 300;

/// Stops a worker under load: no request is lost, and none is answered twice.
pub(super) async fn under_load(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = Run::open(suite, Plan::new(suite, "term"), seed).await?;
    run.load.rate(RATE);
    let mut longest = Duration::ZERO;
    for _ in 0..suite.times.unwrap_or(5) {
        run.start("a").await?;
        run.await_answers(100).await?;
        run.sleep_between(0..1000).await?;
        longest = longest.max(run.stop("a").await?.took);
    }
    run.note(format!("stopped within {:.1} s", longest.as_secs_f64()));
    run.start("a").await?;
    run.settle().await
}

/// Sends SIGTERM twice. The worker ends at once with exit code 130; no request is lost, and those
/// in flight may be answered twice. A worker that has drained before the second signal ends with
/// code 0, so this repeats until enough workers have ended at once.
pub(super) async fn twice(suite: &Suite, seed: u64) -> Result<Summary> {
    const MOST: u32 = 20;
    let mut plan = Plan::new(suite, "term-twice");
    plan.duplicates = Duplicates::Counted;
    plan.pipeline.steps = format!("{ANSWER}{}{BATCH}", slow("700ms"));
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    let mut at_once = 0;
    let mut times = 0;
    while at_once < suite.times.unwrap_or(3) {
        ensure!(
            times < MOST,
            "too few of {MOST} second signals came before the worker had drained"
        );
        times += 1;
        run.start("a").await?;
        run.await_answers(100).await?;
        let mut worker = run.take("a")?;
        worker.signal("TERM").await?;
        sleep(Duration::from_millis(run.random.random_range(1..100))).await;
        if worker.try_exit()?.is_none() {
            worker.signal("TERM").await?;
        }
        let exit = worker.exit(STOP).await?;
        match exit.code {
            Some(0 | 130) if exit.took <= Duration::from_secs(2) => {
                at_once += u32::from(exit.code == Some(130));
            }
            _ => {
                let text = format!("ended by {exit:?} instead of exit code 130 at once");
                return Err(worker.broken(&text));
            }
        }
    }
    run.start("a").await?;
    run.settle().await
}

//! Brokers that stop, crash, or stand still.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::cluster::BROKERS;
use crate::ledger::Duplicates;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// What happens to a broker before it comes back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It hands over what it leads and stops.
    Stop,
    /// It is killed.
    Kill,
    /// It stands still, and does not know.
    Pause,
}

async fn open<'a>(suite: &'a Suite, name: &str, seed: u64) -> Result<Run<'a>> {
    let mut plan = Plan::new(suite, name);
    plan.pipeline.long_session();
    // A member whose coordinator is away may lose its partitions before it can commit.
    plan.duplicates = Duplicates::Counted;
    plan.patience = Duration::from_secs(90);
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.start("b").await?;
    run.await_answers(200).await?;
    Ok(run)
}

/// One broker after another, in a random order.
pub(super) async fn one_by_one(
    suite: &Suite,
    seed: u64,
    name: &str,
    fault: Fault,
) -> Result<Summary> {
    let mut run = open(suite, name, seed).await?;
    let first = run.random.random_range(0..BROKERS);
    let brokers = suite.times.and_then(|times| times.try_into().ok()).unwrap_or(BROKERS);
    for turn in 0..brokers {
        let broker = (first + turn) % BROKERS + 1;
        match fault {
            Fault::Stop => suite.cluster.broker("stop", broker).await?,
            Fault::Kill => suite.cluster.broker("kill", broker).await?,
            Fault::Pause => suite.cluster.broker("pause", broker).await?,
        }
        run.sleep_between(3000..8000).await?;
        suite.cluster.heal().await?;
        run.await_answers(100).await?;
        // Until it is in sync again, the next one must stay.
        run.sleep(Duration::from_secs(5)).await?;
    }
    run.settle().await
}

/// All of them at once.
pub(super) async fn all(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = open(suite, "brokers-down", seed).await?;
    // What nobody takes would wait in the client.
    run.load.rate(RATE / 10);
    for broker in 1..=BROKERS {
        suite.cluster.broker("kill", broker).await?;
    }
    run.sleep_between(10_000..20_000).await?;
    suite.cluster.heal().await?;
    run.await_answers(100).await?;
    run.settle().await
}

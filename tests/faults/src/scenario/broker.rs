//! Brokers that stop, crash or freeze.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use tokio::time::Instant;

use crate::cluster::BROKERS;
use crate::ledger::Duplicates;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// The fault of a broker. Afterwards the broker is started or resumed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The broker hands over the leadership of its partitions and stops.
    Stop,
    /// The broker is killed.
    Kill,
    /// The broker is frozen with SIGSTOP.
    Pause,
}

async fn open<'a>(suite: &'a Suite, name: &str, seed: u64) -> Result<Run<'a>> {
    let mut plan = Plan::new(suite, name);
    plan.pipeline.long_session();
    // While the coordinator of the group is down, a member may lose its partitions before it can
    // commit. The next owner then answers its requests again.
    plan.duplicates = Duplicates::Counted;
    plan.patience = Duration::from_secs(90);
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.start("b").await?;
    run.await_answers(200).await?;
    Ok(run)
}

/// Stops, kills or freezes one broker after another, beginning with a random one.
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
        // The next fault must wait until this broker is in sync again: writing needs two of the
        // three replicas (`min.insync.replicas`).
        run.sleep(Duration::from_secs(5)).await?;
    }
    run.settle().await
}

/// Kills one broker after another while there are no requests, and sends requests before the broker
/// is back. Clients that do nothing notice only by chance that the coordinator of their group or
/// transaction is gone.
pub(super) async fn while_idle(suite: &Suite, seed: u64) -> Result<Summary> {
    /// Longer than a client takes to ask for the cluster's brokers again.
    const IDLE: Duration = Duration::from_secs(8);
    let mut run = open(suite, "broker-kill-idle", seed).await?;
    let mut slowest = Duration::ZERO;
    for broker in 1..=BROKERS {
        run.load.exactly(0);
        run.await_quiet().await?;
        // The end of the last transaction has reached all replicas by then.
        run.sleep(Duration::from_secs(2)).await?;
        suite.cluster.broker("kill", broker).await?;
        run.sleep(IDLE).await?;
        let resumed = Instant::now();
        run.load.exactly(usize::MAX);
        run.await_answers(100).await?;
        slowest = slowest.max(resumed.elapsed());
        suite.cluster.heal().await?;
        run.sleep(Duration::from_secs(5)).await?;
    }
    run.note(format!(
        "100 answers at the latest {:.1} s after the load resumed",
        slowest.as_secs_f64()
    ));
    run.settle().await
}

/// Kills all brokers at once.
pub(super) async fn all(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = open(suite, "brokers-down", seed).await?;
    // While all brokers are down, requests wait in the Java client. A lower rate keeps their number
    // small.
    run.load.rate(RATE / 10);
    for broker in 1..=BROKERS {
        suite.cluster.broker("kill", broker).await?;
    }
    run.sleep_between(10_000..20_000).await?;
    suite.cluster.heal().await?;
    run.await_answers(100).await?;
    run.settle().await
}

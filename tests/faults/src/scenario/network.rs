//! Networks that are slow, pass nothing, pass one direction only, or reset connections.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::pipeline::Delivery;
use crate::proxy::{Conditions, Proxies};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// Added latency in each direction between the worker and the sink's brokers.
const SLOW: Duration = Duration::from_millis(600);

async fn open<'a>(
    suite: &'a Suite,
    name: &str,
    seed: u64,
    duplicates: Duplicates,
) -> Result<(Run<'a>, Proxies)> {
    let proxies = Proxies::start(&suite.cluster).await?;
    let mut plan = Plan::new(suite, name);
    plan.pipeline.brokers = suite.cluster.proxied_addresses();
    plan.pipeline.long_session();
    plan.duplicates = duplicates;
    plan.patience = Duration::from_secs(90);
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.start("b").await?;
    run.await_answers(200).await?;
    Ok((run, proxies))
}

/// Adds 200 ms of latency in each direction.
pub(super) async fn latency(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "latency", seed, Duplicates::None).await?;
    proxies.set(Conditions { latency: Duration::from_millis(200), ..Conditions::default() });
    run.sleep(Duration::from_secs(10)).await?;
    run.settle().await
}

/// Resets every connection, several times.
pub(super) async fn resets(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "resets", seed, Duplicates::Counted).await?;
    for _ in 0..suite.times.unwrap_or(10) {
        proxies.reset();
        run.sleep_between(200..2000).await?;
    }
    run.settle().await
}

/// Holds back all bytes, then those to the brokers, then those from the brokers, each time for 2 to
/// 9 s. The session timeout is 6 s.
pub(super) async fn stalls(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "stalls", seed, Duplicates::Counted).await?;
    for (requests_stuck, responses_stuck) in [(true, true), (true, false), (false, true)] {
        proxies.set(Conditions { requests_stuck, responses_stuck, ..Conditions::default() });
        run.sleep_between(2000..9000).await?;
        proxies.set(Conditions::default());
        run.await_answers(100).await?;
        run.sleep_between(1000..3000).await?;
    }
    run.settle().await
}

/// Slows down the confirmation of replies while requests keep coming fast. The source then waits,
/// because at most `max_in_flight` requests are in flight.
pub(super) async fn slow_sink(suite: &Suite, seed: u64) -> Result<Summary> {
    let proxies = Proxies::start(&suite.cluster).await?;
    let mut plan = Plan::new(suite, "slow-sink");
    match suite.delivery {
        Delivery::AtLeastOnce => {
            plan.pipeline.sink_brokers = Some(suite.cluster.proxied_addresses());
        }
        // With exactly-once delivery, the sink's producer also sends the offsets, so source and
        // sink use the same brokers. The latency then delays heartbeats too, so the session must be
        // longer.
        Delivery::ExactlyOnce => {
            plan.pipeline.brokers = suite.cluster.proxied_addresses();
            plan.pipeline.long_session();
        }
    }
    let mut run = Run::open(suite, plan, seed).await?;
    run.start("a").await?;
    run.load.rate(RATE);
    run.await_answers(200).await?;
    proxies.set(Conditions { latency: SLOW, ..Conditions::default() });
    run.load.rate(5 * RATE);
    run.sleep(Duration::from_secs(8)).await?;
    run.load.rate(0);
    proxies.set(Conditions::default());
    run.settle().await
}

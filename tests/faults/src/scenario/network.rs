//! Networks that are slow, stand still, pass one way only, or break.

use std::time::Duration;

use anyhow::Result;

use crate::ledger::Duplicates;
use crate::pipeline::Delivery;
use crate::proxy::{Proxies, Weather};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// Each way, to a sink.
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

/// 200 ms each way.
pub(super) async fn latency(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "latency", seed, Duplicates::None).await?;
    proxies.set(Weather { latency: Duration::from_millis(200), ..Weather::default() });
    run.sleep(Duration::from_secs(10)).await?;
    run.settle().await
}

/// Every connection is reset, again and again.
pub(super) async fn resets(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "resets", seed, Duplicates::Counted).await?;
    for _ in 0..suite.times.unwrap_or(10) {
        proxies.reset();
        run.sleep_between(200..2000).await?;
    }
    run.settle().await
}

/// Nothing passes for a while, shorter or longer than a session; or only what goes one way.
pub(super) async fn stalls(suite: &Suite, seed: u64) -> Result<Summary> {
    let (mut run, proxies) = open(suite, "stalls", seed, Duplicates::Counted).await?;
    for (requests_stuck, responses_stuck) in [(true, true), (true, false), (false, true)] {
        proxies.set(Weather { requests_stuck, responses_stuck, ..Weather::default() });
        run.sleep_between(2000..9000).await?;
        proxies.set(Weather::default());
        run.await_answers(100).await?;
        run.sleep_between(1000..3000).await?;
    }
    run.settle().await
}

/// The way to the replies is slow while requests come fast: what is read waits, within its bound.
pub(super) async fn slow_sink(suite: &Suite, seed: u64) -> Result<Summary> {
    let proxies = Proxies::start(&suite.cluster).await?;
    let mut plan = Plan::new(suite, "slow-sink");
    match suite.delivery {
        Delivery::AtLeastOnce => {
            plan.pipeline.sink_brokers = Some(suite.cluster.proxied_addresses());
        }
        // Offsets go the way of the replies, so everything does; for that a session has to be long enough.
        Delivery::ExactlyOnce => {
            plan.pipeline.brokers = suite.cluster.proxied_addresses();
            plan.pipeline.long_session();
        }
    }
    let mut run = Run::open(suite, plan, seed).await?;
    run.start("a").await?;
    run.load.rate(RATE);
    run.await_answers(200).await?;
    proxies.set(Weather { latency: SLOW, ..Weather::default() });
    run.load.rate(5 * RATE);
    run.sleep(Duration::from_secs(8)).await?;
    run.load.rate(0);
    proxies.set(Weather::default());
    run.settle().await
}

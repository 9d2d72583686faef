//! Networks that are slow, stand still, pass one way only, or break.

use std::time::Duration;

use anyhow::Result;

use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;
use crate::pipeline::Delivery;
use crate::proxy::{Proxies, Weather};

const RATE: u32 = 200;

/// Each way, to a sink.
const SLOW: Duration = Duration::from_millis(600);

async fn open<'a>(
    lab: &'a Lab,
    name: &str,
    seed: u64,
    duplicates: Duplicates,
) -> Result<(Field<'a>, Proxies)> {
    let proxies = Proxies::start(&lab.cluster).await?;
    let mut plan = Plan::new(lab, name);
    plan.pipeline.brokers = lab.cluster.proxied_addresses();
    plan.pipeline.long_session();
    plan.duplicates = duplicates;
    plan.patience = Duration::from_secs(90);
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.start("b").await?;
    field.await_answers(200).await?;
    Ok((field, proxies))
}

/// 200 ms each way.
pub(super) async fn latency(lab: &Lab, seed: u64) -> Result<Summary> {
    let (mut field, proxies) = open(lab, "latency", seed, Duplicates::None).await?;
    proxies.set(Weather { latency: Duration::from_millis(200), ..Weather::default() });
    field.sleep(Duration::from_secs(10)).await?;
    field.settle().await
}

/// Every connection is reset, again and again.
pub(super) async fn resets(lab: &Lab, seed: u64) -> Result<Summary> {
    let (mut field, proxies) = open(lab, "resets", seed, Duplicates::Counted).await?;
    for _ in 0..lab.times.unwrap_or(10) {
        proxies.reset();
        field.sleep_between(200..2000).await?;
    }
    field.settle().await
}

/// Nothing passes for a while, shorter or longer than a session; or only what goes one way.
pub(super) async fn stalls(lab: &Lab, seed: u64) -> Result<Summary> {
    let (mut field, proxies) = open(lab, "stalls", seed, Duplicates::Counted).await?;
    for (requests_stuck, responses_stuck) in [(true, true), (true, false), (false, true)] {
        proxies.set(Weather { requests_stuck, responses_stuck, ..Weather::default() });
        field.sleep_between(2000..9000).await?;
        proxies.set(Weather::default());
        field.await_answers(100).await?;
        field.sleep_between(1000..3000).await?;
    }
    field.settle().await
}

/// The way to the replies is slow while requests come fast: what is read waits, within its bound.
pub(super) async fn slow_sink(lab: &Lab, seed: u64) -> Result<Summary> {
    let proxies = Proxies::start(&lab.cluster).await?;
    let mut plan = Plan::new(lab, "slow-sink");
    match lab.delivery {
        Delivery::AtLeastOnce => {
            plan.pipeline.sink_brokers = Some(lab.cluster.proxied_addresses());
        }
        // Offsets go the way of the replies, so everything does; for that a session has to be long enough.
        Delivery::ExactlyOnce => {
            plan.pipeline.brokers = lab.cluster.proxied_addresses();
            plan.pipeline.long_session();
        }
    }
    let mut field = Field::open(lab, plan, seed).await?;
    field.start("a").await?;
    field.load.rate(RATE);
    field.await_answers(200).await?;
    proxies.set(Weather { latency: SLOW, ..Weather::default() });
    field.load.rate(5 * RATE);
    field.sleep(Duration::from_secs(8)).await?;
    field.load.rate(0);
    proxies.set(Weather::default());
    field.settle().await
}

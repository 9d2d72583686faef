//! Brokers that stop, crash, or stand still.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::cluster::BROKERS;
use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;
use crate::ledger::Duplicates;

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

async fn open<'a>(lab: &'a Lab, name: &str, seed: u64) -> Result<Field<'a>> {
    let mut plan = Plan::new(lab, name);
    plan.pipeline.long_session();
    // A member whose coordinator is away may lose its partitions before it can commit.
    plan.duplicates = Duplicates::Counted;
    plan.patience = Duration::from_secs(90);
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.start("b").await?;
    field.await_answers(200).await?;
    Ok(field)
}

/// One broker after another, in a random order.
pub(super) async fn one_by_one(lab: &Lab, seed: u64, name: &str, fault: Fault) -> Result<Summary> {
    let mut field = open(lab, name, seed).await?;
    let first = field.random.random_range(0..BROKERS);
    let brokers = lab.times.and_then(|times| times.try_into().ok()).unwrap_or(BROKERS);
    for turn in 0..brokers {
        let broker = (first + turn) % BROKERS + 1;
        match fault {
            Fault::Stop => lab.cluster.broker("stop", broker).await?,
            Fault::Kill => lab.cluster.broker("kill", broker).await?,
            Fault::Pause => lab.cluster.broker("pause", broker).await?,
        }
        field.sleep_between(3000..8000).await?;
        lab.cluster.heal().await?;
        field.await_answers(100).await?;
        // Until it is in sync again, the next one must stay.
        field.sleep(Duration::from_secs(5)).await?;
    }
    field.settle().await
}

/// All of them at once.
pub(super) async fn all(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut field = open(lab, "brokers-down", seed).await?;
    // What nobody takes would wait in the client.
    field.load.rate(RATE / 10);
    for broker in 1..=BROKERS {
        lab.cluster.broker("kill", broker).await?;
    }
    field.sleep_between(10_000..20_000).await?;
    lab.cluster.heal().await?;
    field.await_answers(100).await?;
    field.settle().await
}

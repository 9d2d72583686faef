//! Members that come and go: partitions move all the time.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;

const RATE: u32 = 300;
const MOST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Cooperative,
    Range,
    Static,
}

/// Every member drains what it gives back, so nothing is answered twice.
pub(super) async fn storm(lab: &Lab, seed: u64, protocol: Protocol) -> Result<Summary> {
    let mut plan = Plan::new(lab, "storm");
    let strategy = if protocol == Protocol::Cooperative { "cooperative-sticky" } else { "range" };
    plan.pipeline.source_options.push(("partition.assignment.strategy", strategy.into()));
    plan.pipeline.static_members = protocol == Protocol::Static;
    if protocol != Protocol::Static {
        // Far more than a drain takes, so that nothing excuses a duplicate. Static members leave by the end of their
        // session, which is to come soon.
        plan.pipeline.long_session();
    }
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("m0").await?;
    field.await_answers(100).await?;
    let mut next = 1;
    let mut moves = 0;
    for _ in 0..lab.times.unwrap_or(2) {
        while field.running().len() < MOST {
            field.launch(&format!("m{next}"))?;
            (next, moves) = (next + 1, moves + 1);
            field.sleep(Duration::from_secs(2)).await?;
        }
        while field.running().len() > 1 {
            let members = field.running();
            let leaver = &members[field.random.random_range(0..members.len())];
            // One that has not come up yet has nothing to stop in order.
            field.worker(leaver)?.await_ready().await?;
            field.stop(leaver).await?;
            moves += 1;
            field.sleep(Duration::from_secs(2)).await?;
        }
    }
    field.note(format!("{moves} members came or went"));
    field.settle().await
}

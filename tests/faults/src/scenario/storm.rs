//! Members that join and leave the group all the time, so that partitions keep moving.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;

use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 300;
const MOST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Cooperative,
    Range,
    Static,
}

/// Lets the number of members go from 1 to 4 and back. Every member drains the partitions that it
/// gives back, so no request is answered twice.
pub(super) async fn storm(suite: &Suite, seed: u64, protocol: Protocol) -> Result<Summary> {
    let mut plan = Plan::new(suite, "storm");
    let strategy = if protocol == Protocol::Cooperative { "cooperative-sticky" } else { "range" };
    plan.pipeline.source_options.push(("partition.assignment.strategy", strategy.into()));
    plan.pipeline.static_members = protocol == Protocol::Static;
    if protocol != Protocol::Static {
        // With a long session every drain has enough time, so a duplicate is always a fault. The
        // session of a static member stays short, because its partitions move only when the session
        // expires.
        plan.pipeline.long_session();
    }
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("m0").await?;
    run.await_answers(100).await?;
    let mut next = 1;
    let mut moves = 0;
    for _ in 0..suite.times.unwrap_or(2) {
        while run.running().len() < MOST {
            run.launch(&format!("m{next}"))?;
            next += 1;
            moves += 1;
            run.sleep(Duration::from_secs(2)).await?;
        }
        while run.running().len() > 1 {
            let members = run.running();
            let leaver = &members[run.random.random_range(0..members.len())];
            // A worker that is not ready may not handle SIGTERM yet.
            run.worker(leaver)?.await_ready().await?;
            run.stop(leaver).await?;
            moves += 1;
            run.sleep(Duration::from_secs(2)).await?;
        }
    }
    run.note(format!("{moves} members joined or left"));
    run.settle().await
}

//! Scenarios in which the request topic has gaps in its offsets, because transactions were aborted
//! or records were deleted.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use serde_json::json;

use crate::client::Offsets;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 200;

/// Sends requests in transactions beside the ordinary load, and aborts every second transaction.
/// After the ordinary load has stopped and every request is answered, one more transaction is
/// aborted, so that the topic ends with a gap.
pub(super) async fn aborted(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = Run::open(suite, Plan::new(suite, "aborted"), seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    let sender = suite.name("sender");
    for turn in 0..2 * suite.times.unwrap_or(6) {
        let count = run.random.random_range(1..40);
        run.load.transact(&sender, count, turn % 2 == 0).await?;
        run.sleep_between(0..500).await?;
    }
    run.load.stop().await?;
    run.await_quiet().await?;
    run.load.transact(&sender, 10, false).await?;
    run.note("every second transaction aborted");
    run.settle().await
}

/// Deletes requests while no worker runs. The next worker goes on with the first record that
/// remains.
pub(super) async fn truncated(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = Run::open(suite, Plan::new(suite, "truncated"), seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    run.stop("a").await?;
    run.sleep(Duration::from_secs(2)).await?;
    run.load.stop().await?;
    let ends = suite.client.ends(&run.pipeline.requests, "read_committed").await?;
    let before: Offsets = ends.iter().map(|(partition, end)| (*partition, end - 20)).collect();
    let by_name: serde_json::Map<_, _> = before
        .iter()
        .map(|(partition, offset)| (partition.to_string(), (*offset).into()))
        .collect();
    suite
        .client
        .call(json!({"op": "truncate", "topic": run.pipeline.requests, "before": by_name}))
        .await?;
    let gone = run.ledger.lock().mark_deleted_before(&before);
    run.note(format!("{gone} requests deleted before they were read"));
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    run.settle().await
}

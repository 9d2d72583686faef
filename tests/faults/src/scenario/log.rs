//! Logs of requests with gaps: aborted transactions, and records that are gone.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use serde_json::json;

use crate::client::Offsets;
use crate::field::{Field, Plan, Summary};
use crate::lab::Lab;

const RATE: u32 = 200;

/// Some senders write in transactions, and abort every other one. The log ends with an aborted one.
pub(super) async fn aborted(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut field = Field::open(lab, Plan::new(lab, "aborted"), seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    let sender = lab.name("sender");
    for turn in 0..2 * lab.times.unwrap_or(6) {
        let count = field.random.random_range(1..40);
        field.load.transact(&sender, count, turn % 2 == 0).await?;
        field.sleep_between(0..500).await?;
    }
    field.load.stop().await?;
    field.await_quiet().await?;
    field.load.transact(&sender, 10, false).await?;
    field.note("every other transaction aborted");
    field.settle().await
}

/// Requests are deleted before they were read, while no worker runs: it goes on with the first that is there.
pub(super) async fn truncated(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut field = Field::open(lab, Plan::new(lab, "truncated"), seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    field.stop("a").await?;
    field.sleep(Duration::from_secs(2)).await?;
    field.load.stop().await?;
    let ends = lab.client.ends(&field.pipeline.requests, "read_committed").await?;
    let before: Offsets = ends.iter().map(|(partition, end)| (*partition, end - 20)).collect();
    let by_name: serde_json::Map<_, _> = before
        .iter()
        .map(|(partition, offset)| (partition.to_string(), (*offset).into()))
        .collect();
    lab.client
        .call(json!({"op": "truncate", "topic": field.pipeline.requests, "before": by_name}))
        .await?;
    let gone = field.ledger.lock().excuse_before(&before);
    field.note(format!("{gone} deleted before they were read"));
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    field.settle().await
}

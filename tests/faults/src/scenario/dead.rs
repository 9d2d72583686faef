//! Requests that fail go to a topic of their own, if they can.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::field::{Field, PARTITIONS, Plan, STOP, Summary};
use crate::identity::Kind;
use crate::lab::Lab;
use crate::ledger::Duplicates;
use crate::pipeline::Delivery;
use crate::violation::Invariant;

const RATE: u32 = 200;

fn plan(lab: &Lab, name: &str) -> Plan {
    let mut plan = Plan::new(lab, name);
    plan.pipeline.dead_letters = Some(format!("{}-dead", plan.pipeline.group));
    plan
}

/// Every malformed request lies there, byte for byte, and no other.
pub(super) async fn letters(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut plan = plan(lab, "dead-letters");
    plan.malformed = 20;
    plan.duplicates = Duplicates::Bounded;
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    for _ in 0..lab.times.unwrap_or(3) {
        field.start("a").await?;
        field.await_answers(200).await?;
        field.kill("a").await?;
    }
    field.start("a").await?;
    let ledger = field.ledger.clone();
    let summary = field.settle().await?;
    let figures = ledger.lock().figures;
    if figures.dead == 0 || figures.dead != figures.errors {
        let text = format!("{} dead letters of {} failures", figures.dead, figures.errors);
        return Err(Invariant::NoLoss.broken(text).into());
    }
    Ok(summary)
}

/// A worker does not start without it, and says so.
pub(super) async fn missing(lab: &Lab, seed: u64) -> Result<Summary> {
    let mut field = Field::open(lab, plan(lab, "dead-letters-missing"), seed).await?;
    let mut wrong = field.pipeline.clone();
    wrong.dead_letters = Some(format!("{}-not-there", wrong.group));
    field.launch_text("a", &wrong.text("a"))?;
    let mut worker = field.take("a")?;
    let exit = worker.exit(STOP).await?;
    if exit.code != Some(69) {
        return Err(worker.broken(&format!("ended by {exit:?} instead of 69")));
    }
    field.note(format!("refused: {}", exit.last_line));
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    field.settle().await
}

/// What would have to go there stays where it is, and what has nothing to do with it is answered; a worker that starts
/// when the topic is back makes good for it.
pub(super) async fn gone(lab: &Lab, seed: u64) -> Result<Summary> {
    const KEY: u16 = 7;
    let mut plan = plan(lab, "dead-letters-gone");
    plan.malformed = 0;
    plan.duplicates = Duplicates::Counted;
    let mut field = Field::open(lab, plan, seed).await?;
    field.load.rate(RATE);
    field.start("a").await?;
    field.await_answers(200).await?;
    let Some(topic) = field.pipeline.dead_letters.clone() else { return field.settle().await };
    lab.client.call(json!({"op": "delete", "topics": [topic]})).await?;
    field.load.send([(Some(KEY), Kind::BrokenJson)]).await?;
    field.sleep(Duration::from_secs(8)).await?;
    let (waiting, partitions) = {
        let ledger = field.ledger.lock();
        (
            ledger.open_count(),
            ledger.ends().keys().filter(|one| ledger.first_open(**one).is_some()).count(),
        )
    };
    if waiting == 0 {
        return Err(Invariant::NoLoss.broken("nothing waits for the topic of dead letters").into());
    }
    field.note(format!("{waiting} waited in {partitions} partitions"));
    let mut worker = field.take("a")?;
    worker.signal("TERM").await?;
    let exit = worker.exit(STOP).await?;
    // Whether anything was passed over counts for more than how the worker calls its end.
    field.check_commits().await?;
    // A transaction that has just been aborted leaves nothing in flight, and so a stop in order.
    let in_order = exit.code == Some(0) && lab.delivery == Delivery::ExactlyOnce;
    if !in_order && !matches!(exit.code, Some(70 | 75)) {
        return Err(worker.broken(&format!("ended by {exit:?}, as if everything were answered")));
    }
    field.note(format!("stopped with {:?}", exit.code.unwrap_or(-1)));
    lab.client.create(&[&topic], PARTITIONS, json!({})).await?;
    lab.await_topic(&topic).await?;
    field.start("a").await?;
    field.await_answers(200).await?;
    field.settle().await
}
